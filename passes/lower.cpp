#include "passes/lower.h"

#include <algorithm>

#include "ir/edit.h"
#include "passes/dead_code.h"

namespace weir {
namespace {

using Values = std::vector<Value>;

Values lower_reduction(Rewriter& rewriter, const Node& node, const Target& target) {
  Value x = rewriter[node.inputs[0]];
  std::vector<int64_t> axes = node.attrs.get_ints("axes");
  int64_t last = rewriter.type(x).rank() - 1;
  if (axes.back() == last) {
    Attrs attrs{{"axes", std::vector<int64_t>{last}}};
    attrs.set("lanes", node.attrs.get_int_or(
                           "lanes", reduction_lanes(rewriter.type(x).shape[last], target)));
    x = rewriter.add(node.op, {x}, attrs, node.where);
    axes.pop_back();
  }
  if (!axes.empty()) x = rewriter.add(node.op, {x}, {{"axes", axes}}, node.where);
  return {x};
}

Values lower_attention(Rewriter& rewriter, const Node& node, const Target& target) {
  Values inputs = rewriter[node.inputs];
  const Shape& k = rewriter.type(inputs[1]).shape;
  Attrs attrs = node.attrs;
  attrs.set("key_block",
            node.attrs.get_int_or("key_block", attention_key_block(k[1], k[3], target)));
  return rewriter.add_node(node.op, inputs, attrs, node.where);
}

}  // namespace

int64_t reduction_lanes(int64_t extent, const Target& target) {
  int64_t vectors = 4;
  while (vectors > 1 && extent < 2 * vectors * target.lanes()) vectors /= 2;
  return vectors * target.lanes();
}

int64_t attention_key_block(int64_t keys, int64_t features, const Target& target) {
  int64_t block = 64, bytes_per_key = 2 * features * 4;
  while (block > target.lanes() && block * bytes_per_key > target.l2_bytes / 8) block /= 2;
  int64_t rounded = (keys + target.lanes() - 1) / target.lanes() * target.lanes();
  return std::min(block, rounded);
}

GraphPtr lower(const GraphPtr& graph, const Target& target) {
  GraphPtr lowered = rewrite(graph, [&](Rewriter& rewriter, int32_t id) -> std::optional<Values> {
    const Node& node = graph->node(id);
    if (info(node.op).op_class == OpClass::Reduction)
      return lower_reduction(rewriter, node, target);
    if (info(node.op).find_attribute("key_block")) return lower_attention(rewriter, node, target);
    return std::nullopt;
  });
  return dead_code(with_stage(lowered, Stage::lowered));
}

}  // namespace weir
