#include "passes/attention_normalizer.h"

#include <algorithm>

#include "ir/edit.h"
#include "support/error.h"

namespace weir {
namespace {

bool are_rows_of_attention(const Graph& graph, Value value) {
  while (graph.node(value).op == Op::identity || graph.node(value).op == Op::stop_gradient)
    value = graph.node(value).inputs[0];
  return graph.node(value).op == Op::attention && value.result == 1;
}

}  // namespace

GraphPtr apply_attention_normalizer(const GraphPtr& graph, AttentionNormalizer normalizer) {
  if (graph->stage() != Stage::built)
    user_error("attention",
               "graph {} is {} already; a normaliser has a gradient, so it is applied to built "
               "graphs only.",
               graph->name(), stage_name(graph->stage()));
  const auto& nodes = graph->nodes();
  if (std::none_of(nodes.begin(), nodes.end(), [](const Node& n) { return n.op == Op::attention; }))
    user_error("attention",
               "graph {} has no attention node, so it has no normaliser to replace by {}. Use it "
               "on a model with attention, or leave attention at softmax.",
               graph->name(), normalizer_name(normalizer));
  return rewrite(graph, [&](Rewriter& rewriter, int32_t id) -> std::optional<std::vector<Value>> {
    const Node& node = graph->node(id);
    bool reads_weights = info(node.op).find_attribute(kNormalizer) &&
                         std::any_of(node.inputs.begin(), node.inputs.end(), [&](Value input) {
                           return are_rows_of_attention(*graph, input);
                         });
    if (node.op != Op::attention && !reads_weights) return std::nullopt;
    Attrs attrs = node.attrs;
    set_normalizer(attrs, normalizer);
    if (attrs == node.attrs) return std::nullopt;
    return rewriter.add_node(node.op, rewriter[node.inputs], attrs, node.where);
  });
}

}  // namespace weir
