#include "passes/sink_gradient.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

#include "ir/hook_name.h"
#include "passes/attention_layers.h"
#include "passes/op_builder.h"
#include "support/text.h"

namespace weir {
namespace {

std::map<int32_t, int64_t> chosen_layers(const Graph& graph, const SinkGradientOptions& options) {
  need_built_attention(graph, {"sink_gradient", "sink_gradient.gain at 1"});
  Problems problems("sink_gradient");
  if (!std::isfinite(options.gain))
    problems.add(fmt::format("the gain is {}, but a finite number is needed, such as 0.",
                             shortest(options.gain)));
  const std::map<int32_t, int64_t> chosen = chosen_attention(graph, options.layers, problems);
  for (const auto& [node, layer] : chosen) {
    const int64_t keys = graph.type(graph.node(node).inputs[2]).shape[1];
    if (options.token < 0 || options.token >= keys)
      problems.add(
          fmt::format("token {} is asked for, but attention layer {} of graph {} has keys "
                      "0 to {}.",
                      options.token, layer, graph.name(), keys - 1));
  }
  problems.raise();
  return chosen;
}

}  // namespace

GraphPtr apply_sink_gradient(const GraphPtr& graph, const SinkGradientOptions& options) {
  if (options.gain == 1) return graph;
  const std::map<int32_t, int64_t> chosen = chosen_layers(*graph, options);
  const auto names = graph->names_by_value();
  std::map<Value, Value> attended;  // by the old value, which several layers may share
  return rewrite(graph, [&](Rewriter& rewriter, int32_t id) -> std::optional<std::vector<Value>> {
    const Node& node = graph->node(id);
    if (!chosen.contains(id)) return std::nullopt;
    std::vector<Value> inputs = rewriter[node.inputs];
    Value& v = attended[node.inputs[2]];
    if (!v.valid()) {
      OpBuilder e(rewriter, fmt::format("sink_gradient.{}", chosen.at(id)));
      const Value old = inputs[2];
      const Value key = rewriter.iota(1, i32({1, e.shape(old)[1], 1, 1}));
      const Value sink = rewriter.constant(static_cast<double>(options.token), i32({}));
      const Value gain = e.select(e.eq(key, sink), e.scalar(options.gain, old), e.scalar(1, old));
      v = e.straight_through(old, e.mul(old, gain));
      if (auto found = names.find(node.inputs[2]); found != names.end())
        for (const std::string& name : found->second)
          if (const auto hook = value_hook(name, "attended")) {
            rewriter.name(v, *hook);
            break;
          }
    }
    inputs[2] = v;
    return rewriter.add_node(Op::attention, inputs, node.attrs, node.where);
  });
}

}  // namespace weir
