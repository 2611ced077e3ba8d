#include "passes/sequence_loss.h"

#include <algorithm>

#include "passes/op_builder.h"
#include "support/error.h"

namespace weir {
namespace {

/// A cross entropy and the sequences whose rows it has.
struct Loss {
  const Node* node = nullptr;
  int64_t batch = 0, tokens = 0;
};

Loss loss_of(const Graph& graph) {
  if (graph.stage() != Stage::built)
    user_error("loss", "graph {} is {}, but losses of sequences are told of a built graph.",
               graph.name(), stage_name(graph.stage()));
  const auto tokens = graph.find_input("tokens");
  if (!tokens || graph.type(*tokens).rank() != 2)
    user_error("loss", "graph {} has no input tokens i32[batch, length].", graph.name());
  const Shape& shape = graph.type(*tokens).shape;
  const auto loss = graph.find_output("loss");
  const bool is_known = loss && graph.node(*loss).op == Op::cross_entropy &&
                        graph.type(graph.node(*loss).inputs[0]).shape[0] == shape[0] * shape[1];
  if (!is_known)
    user_error("loss",
               "the output loss of graph {} is no cross entropy of {} x {} rows, so that the loss "
               "of a sequence cannot be told.",
               graph.name(), shape[0], shape[1]);
  return {&graph.node(*loss), shape[0], shape[1]};
}

constexpr const char* kWhere = "sequence";

// The graph as it is, to which a number is added.
Rewriter copied(const Graph& graph) {
  Rewriter rewriter(graph);
  for (int32_t id = 0; id < graph.size(); ++id)
    if (graph.node(id).op != Op::input) rewriter.copy(id);
  return rewriter;
}

}  // namespace

GraphPtr with_sequence_loss(const GraphPtr& graph) {
  const Loss loss = loss_of(*graph);
  const int64_t T = loss.tokens;
  Rewriter rewriter = copied(*graph);
  const OpBuilder e(rewriter, kWhere);
  const Value targets = rewriter[loss.node->inputs[1]];
  const Value one = e.scalar(1, rewriter[loss.node->inputs[2]]);
  // Of a product its rows are cut, so that logits of a sequence need no memory.
  const Node& product = graph->node(loss.node->inputs[0]);
  const bool is_product = product.op == Op::matmul && product.inputs.size() == 2 &&
                          !product.attrs.get_bool("transpose_a") &&
                          graph->type(product.inputs[0]).rank() == 2;
  std::vector<Value> losses;
  for (int64_t b = 0; b < loss.batch; ++b) {
    const auto rows = [&](Value x) { return e.slice_axis(x, 0, b * T, (b + 1) * T); };
    const Value logits =
        is_product
            ? e.op(Op::matmul, {rows(rewriter[product.inputs[0]]), rewriter[product.inputs[1]]},
                   product.attrs)
            : rows(rewriter[loss.node->inputs[0]]);
    losses.push_back(
        e.reshape(e.op(Op::cross_entropy, {logits, rows(targets), one}, loss.node->attrs), {1}));
  }
  const auto most = static_cast<size_t>(info(Op::concat).inputs_max);
  while (losses.size() > 1) {
    std::vector<Value> joined;
    for (size_t i = 0; i < losses.size(); i += most)
      joined.push_back(
          e.concat({losses.begin() + static_cast<ptrdiff_t>(i),
                    losses.begin() + static_cast<ptrdiff_t>(std::min(losses.size(), i + most))},
                   0));
    losses = std::move(joined);
  }
  rewriter.name(losses.front(), kSequenceLoss);
  return rewriter.finish_copy();
}

GraphPtr with_recalled(const GraphPtr& graph) {
  const Loss loss = loss_of(*graph);
  Rewriter rewriter = copied(*graph);
  const OpBuilder e(rewriter, kWhere);
  const Value logits = rewriter[loss.node->inputs[0]];  // a cap would leave their order as it is
  const Shape shape = e.shape(logits);
  const Value zero = e.scalar(0, logits), one = e.scalar(1, logits);
  const Value wanted = e.reshape(rewriter[loss.node->inputs[1]], {shape[0], 1});
  const Value is_target = e.eq(e.editor().iota(1, i32({1, shape[1]})), wanted);
  const Value picked = e.sum_last(e.select(is_target, logits, zero));
  const Value is_largest = e.ge(picked, e.max_last(logits));
  const Value hit = e.select(e.ge(wanted, 0.0), e.select(is_largest, one, zero), zero);
  const Value sums = e.sum_last(e.reshape(hit, {loss.batch, loss.tokens}));
  rewriter.name(e.reshape(sums, {loss.batch}), kRecalled);
  return rewriter.finish_copy();
}

}  // namespace weir
