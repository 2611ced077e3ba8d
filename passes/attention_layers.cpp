#include "passes/attention_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace weir {

void need_built_attention(const Graph& graph, const RewriteWords& words) {
  if (graph.stage() != Stage::built)
    user_error(words.topic,
               "graph {} is {} already; the rewrite has a gradient, so it is applied to built "
               "graphs only.",
               graph.name(), stage_name(graph.stage()));
  const auto& nodes = graph.nodes();
  if (std::none_of(nodes.begin(), nodes.end(), [](const Node& n) { return n.op == Op::attention; }))
    user_error(words.topic,
               "graph {} has no attention node to rewrite. Use it on a model with attention, or "
               "leave {}.",
               graph.name(), words.off);
}

std::map<int32_t, int64_t> chosen_attention(const Graph& graph, const std::vector<int64_t>& layers,
                                            Problems& problems) {
  std::vector<int32_t> attention;
  for (int32_t id = 0; id < graph.size(); ++id)
    if (graph.node(id).op == Op::attention) attention.push_back(id);
  const auto count = static_cast<int64_t>(attention.size());
  std::map<int32_t, int64_t> chosen;
  if (layers.empty())
    for (int64_t layer = 0; layer < count; ++layer)
      chosen.emplace(attention[static_cast<size_t>(layer)], layer);
  for (int64_t layer : layers)
    if (layer < 0 || layer >= count)
      problems.add(
          fmt::format("layer {} is asked for, but graph {} has {} attention layer{}, 0 to "
                      "{}.",
                      layer, graph.name(), count, count == 1 ? "" : "s", count - 1));
    else
      chosen.emplace(attention[static_cast<size_t>(layer)], layer);
  return chosen;
}

ValueProjection find_value_projection(const Graph& graph, Value value) {
  while (true) {
    const Node& node = graph.node(value);
    switch (info(node.op).op_class) {
      case OpClass::Contraction:
        if (node.op == Op::matmul) {
          const Shape& rows = graph.type(node.inputs[0]).shape;
          ValueProjection found{rows[rows.size() - (node.attrs.get_bool("transpose_a") ? 2 : 1)],
                                ""};
          Value weight = node.inputs[1];
          while (graph.node(weight).op == Op::convert || graph.node(weight).op == Op::transpose)
            weight = graph.node(weight).inputs[0];
          if (graph.is_input(weight)) found.weight = graph.input_name(weight.node);
          return found;
        }
        return {};
      case OpClass::Elementwise:
        if (node.op != Op::identity && node.op != Op::convert && node.op != Op::add) return {};
        break;
      case OpClass::Movement:
        break;
      case OpClass::Source:
      case OpClass::Reduction:
      case OpClass::Composite:
      case OpClass::Effect:
      case OpClass::Kernel:
        return {};
    }
    value = node.inputs[0];
  }
}

std::string prefix_of_projection(const std::string& weight) {
  constexpr std::string_view suffix = "v_proj.weight";
  return weight.ends_with(suffix) ? weight.substr(0, weight.size() - suffix.size()) : "";
}

}  // namespace weir
