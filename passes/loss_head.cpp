#include "passes/loss_head.h"

#include <algorithm>

#include "ir/edit.h"

namespace weir {
namespace {

// How often each value is used by nodes that an output or effect needs, and by outputs. Code kept
// by a name alone does not count: a name must not decide what is computed.
std::vector<std::vector<int32_t>> live_use_counts(const Graph& graph) {
  std::vector<bool> live(graph.nodes().size());
  std::vector<std::vector<int32_t>> uses(graph.nodes().size());
  for (int32_t id = 0; id < graph.size(); ++id) uses[id].resize(graph.node(id).types.size());
  for (const Output& output : graph.outputs()) {
    live[output.value.node] = true;
    ++uses[output.value.node][output.value.result];
  }
  for (int32_t id = graph.size() - 1; id >= 0; --id) {
    if (info(graph.node(id).op).has(op_trait::Effect)) live[id] = true;
    if (!live[id]) continue;
    for (Value input : graph.node(id).inputs) {
      live[input.node] = true;
      ++uses[input.node][input.result];
    }
  }
  return uses;
}

// The product x w^T that makes the logits, if each step to it has this one live use.
std::optional<int32_t> find_product(const Graph& graph, Value logits,
                                    const std::vector<std::vector<int32_t>>& uses) {
  while (uses[logits.node][logits.result] <= 1) {
    const Node& node = graph.node(logits);
    if (node.op == Op::matmul) {
      bool is_linear = node.inputs.size() == 2 && node.attrs.get_bool("transpose_b") &&
                       !node.attrs.get_bool("transpose_a") &&
                       graph.type(node.inputs[1]).rank() == 2;
      return is_linear ? std::optional(logits.node) : std::nullopt;
    }
    bool keeps_rows = node.op == Op::identity ||
                      (node.op == Op::reshape &&
                       graph.type(node.inputs[0]).shape.back() == graph.type(logits).shape.back());
    if (!keeps_rows) return std::nullopt;
    logits = node.inputs[0];
  }
  return std::nullopt;
}

}  // namespace

GraphPtr fuse_loss_head(const GraphPtr& graph) {
  const auto uses = live_use_counts(*graph);
  return rewrite(graph, [&](Rewriter& rewriter, int32_t id) -> std::optional<std::vector<Value>> {
    const Node& node = graph->node(id);
    if (node.op != Op::cross_entropy) return std::nullopt;
    auto product = find_product(*graph, node.inputs[0], uses);
    if (!product) return std::nullopt;
    Value x = rewriter[graph->node(*product).inputs[0]];
    Value w = rewriter[graph->node(*product).inputs[1]];
    Shape rows = {graph->type(node.inputs[0]).shape[0], rewriter.type(x).shape.back()};
    if (rewriter.type(x).shape != rows)
      x = rewriter.add(Op::reshape, {x}, {{"shape", rows}}, node.where);
    return rewriter.add_node(Op::linear_cross_entropy,
                             {x, w, rewriter[node.inputs[1]], rewriter[node.inputs[2]]}, node.attrs,
                             node.where);
  });
}

GraphPtr share_loss_head(const GraphPtr& graph) {
  const auto same = [](const Node& a, const Node& b) {
    return a.inputs == b.inputs && a.attrs == b.attrs;
  };
  std::vector<const Node*> with_gradient;
  for (const Node& node : graph->nodes())
    if (node.op == Op::linear_cross_entropy_grad) with_gradient.push_back(&node);
  if (with_gradient.empty()) return graph;
  return rewrite(graph, [&](Rewriter& rewriter, int32_t id) -> std::optional<std::vector<Value>> {
    const Node& node = graph->node(id);
    if (node.op != Op::linear_cross_entropy ||
        std::none_of(with_gradient.begin(), with_gradient.end(),
                     [&](const Node* each) { return same(*each, node); }))
      return std::nullopt;
    // The gradient node stands further down with the same operands; interning makes them one.
    return std::vector<Value>{rewriter.add_node(Op::linear_cross_entropy_grad,
                                                rewriter[node.inputs], node.attrs, node.where)[0]};
  });
}

}  // namespace weir
