#include "passes/attention_probes.h"

#include "ir/alias.h"
#include "ir/normalizer.h"
#include "ir/score_transform.h"
#include "passes/op_builder.h"
#include "support/error.h"

namespace weir {
namespace {

// How an operand of attention is laid out.
enum class Layout : uint8_t { queries, keys, rows };  // [B,T,H,d], [B,S,G,d], [B,H,...,T]

std::vector<Layout> layouts_of(Op op) {
  using enum Layout;
  if (op == Op::attention_scores) return {queries, keys};
  if (op == Op::attention_pattern) return {queries, keys, rows};
  if (op == Op::attention_score_grad) return {queries, keys, keys, queries, rows, queries, rows};
  return {};
}

}  // namespace

bool is_pattern(const Graph& graph, Value value) {
  return graph.node(through_identity(graph, value)).op == Op::attention_pattern;
}

bool is_whole_attention(const Graph& graph, Value value) {
  return !layouts_of(graph.node(value).op).empty();
}

std::optional<Value> cut_whole_attention(GraphEditor& editor, Value x, int64_t axis, int64_t start,
                                         int64_t limit) {
  const Node node = editor.graph().node(x);
  const std::vector<Layout> layouts = layouts_of(node.op);
  if (layouts.empty() || axis > 1) return std::nullopt;
  OpBuilder e(editor, node.where);
  const int64_t group = e.shape(node.inputs[0])[2] / e.shape(node.inputs[1])[2];
  const int64_t first = start / group, last = (limit - 1) / group;
  const bool whole_groups = start % group == 0 && limit % group == 0;
  if (axis == 1 && first != last && !whole_groups) return std::nullopt;
  std::vector<Value> operands;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const Value operand = node.inputs[i];
    if (axis == 0)
      operands.push_back(e.slice_axis(operand, 0, start, limit));
    else if (layouts[i] == Layout::keys)
      operands.push_back(e.slice_axis(operand, 2, first, last + 1));
    else
      operands.push_back(e.slice_axis(operand, layouts[i] == Layout::rows ? 1 : 2, start, limit));
  }
  return editor.add_node(node.op, operands, node.attrs, node.where)[x.result];
}

Value pattern_statistic(GraphEditor& editor, Value pattern, ReductionKind kind, int64_t sink) {
  const Node node = editor.graph().node(pattern);
  WEIR_CHECK(node.op == Op::attention_pattern, "statistics of a {}", op_name(node.op));
  Attrs attrs = node.attrs;
  attrs.set("sink", sink);
  std::vector<Value> operands = node.inputs;
  // The shares of a row are the weights of its head's softmax, whose statistics the backward kernel
  // computes beside its gradients; the gate is then the row's sum.
  const auto gated = gated_rows(editor.graph(), operands[2]);
  if (gated) {
    if (kind == ReductionKind::row_sum) {
      const Shape shape = editor.type(gated->gate).shape;
      return OpBuilder(editor, node.where).reshape(gated->gate, {shape[0], shape[1], shape[3]});
    }
    operands[2] = gated->rows;
    set_normalizer(attrs, AttentionNormalizer::softmax);
  }
  auto results = editor.add_node(Op::attention_stats, operands, attrs, node.where);
  switch (kind) {
    case ReductionKind::column_mass:
      return results[0];
    case ReductionKind::column_square:
      return results[1];
    case ReductionKind::entropy:
      return results[2];
    case ReductionKind::sink_column:
      return results[3];
    case ReductionKind::row_max:
      return results[4];
    case ReductionKind::row_sum:
      return results[5];
    case ReductionKind::sum:
    case ReductionKind::mean:
    case ReductionKind::max:
    case ReductionKind::min:
    case ReductionKind::norm:
    case ReductionKind::abs:
    case ReductionKind::square:
    case ReductionKind::slice:
    case ReductionKind::map:
      break;
  }
  internal_error_at("not a statistic of attention");
}

Value pattern_map(GraphEditor& editor, Value pattern, int64_t side) {
  const Node node = editor.graph().node(pattern);
  WEIR_CHECK(node.op == Op::attention_pattern, "a map of a {}", op_name(node.op));
  Attrs attrs = node.attrs;
  attrs.set("side", side);
  return editor.add(Op::attention_map, node.inputs, attrs, node.where);
}

Value array_statistic(GraphEditor& editor, Value weights, ReductionKind kind, int64_t sink) {
  OpBuilder e(editor);
  const Shape shape = e.shape(weights);  // [B,H,T,S]
  const Shape by_query = {shape[0], shape[1], shape[2]}, by_key = {shape[0], shape[1], shape[3]};
  const Value sum = e.reduce_sum(weights, {3}), none = e.scalar(0, weights);
  if (kind == ReductionKind::row_sum) return e.reshape(sum, by_query);
  const Value share = e.select(e.gt(e.abs(sum), 0.0), e.div(weights, sum), none);
  switch (kind) {
    case ReductionKind::column_mass:
      return e.reshape(e.reduce_sum(share, {2}), by_key);
    case ReductionKind::column_square:
      return e.reshape(e.reduce_sum(e.mul(share, share), {2}), by_key);
    case ReductionKind::entropy: {
      const Value positive = e.gt(share, 0.0);
      const Value term = e.mul(share, e.log(e.select(positive, share, e.scalar(1, share))));
      return e.reshape(e.neg(e.reduce_sum(e.select(positive, term, none), {3})), by_query);
    }
    case ReductionKind::row_max:
      return e.reshape(e.reduce_max(share, {3}), by_query);
    case ReductionKind::sink_column:
      return e.reshape(e.slice_axis(share, 3, sink, sink + 1), by_query);
    case ReductionKind::row_sum:
    case ReductionKind::sum:
    case ReductionKind::mean:
    case ReductionKind::max:
    case ReductionKind::min:
    case ReductionKind::norm:
    case ReductionKind::abs:
    case ReductionKind::square:
    case ReductionKind::slice:
    case ReductionKind::map:
      break;
  }
  internal_error_at("not a statistic of attention");
}

ObservedAttention::ObservedAttention(const Graph& graph) : graph_(graph) {
  for (int32_t id = 0; id < graph.size(); ++id)
    if (const Node& node = graph.node(id); node.op == Op::attention)
      by_queries_and_keys_[{node.inputs[0], node.inputs[1]}].push_back(id);
}

std::optional<int32_t> ObservedAttention::of(Value value) const {
  const Node& node = graph_.node(value);
  if (node.op == Op::attention_pattern) {
    const Value rows = head_rows(graph_, node.inputs[2]);
    if (graph_.node(rows).op != Op::attention || rows.result != 1) return std::nullopt;
    return rows.node;
  }
  if (node.op != Op::attention_scores) return std::nullopt;
  const auto same = by_queries_and_keys_.find({node.inputs[0], node.inputs[1]});
  if (same == by_queries_and_keys_.end()) return std::nullopt;
  std::optional<int32_t> found;
  for (int32_t id : same->second) {
    if (!(score_transform(graph_.node(id).attrs) == score_transform(node.attrs))) continue;
    if (found) return std::nullopt;
    found = id;
  }
  return found;
}

std::optional<Value> ObservedAttention::output_of(Value value, int32_t attention) const {
  const Node& node = graph_.node(value);
  if (node.op != Op::attention_pattern || !gated_rows(graph_, node.inputs[2]))
    return Value{attention, 0};
  const auto is_gate = [&](Value factor) {
    const Node& gate = graph_.node(strip_reshapes(graph_, factor));
    return gate.op == Op::attention_head_gate &&
           through_identity(graph_, gate.inputs[0]) == Value{attention, 1};
  };
  for (int32_t id = attention + 1; id < graph_.size(); ++id) {
    const Node& reader = graph_.node(id);
    if (reader.op == Op::mul && (is_gate(reader.inputs[0]) || is_gate(reader.inputs[1])))
      return Value{id, 0};
  }
  return std::nullopt;
}

Value lse_gradient(GraphEditor& editor, Value drows, const SharedText& where) {
  const OpBuilder e(editor, where);
  const Shape shape = e.shape(drows);
  return e.reshape(e.slice_axis(drows, 2, 1, 2), {shape[0], shape[1], shape[3]});
}

std::optional<GatedRows> gated_rows(const Graph& graph, Value value) {
  const Node& node = graph.node(through_identity(graph, value));
  if (node.op != Op::concat || node.inputs.size() != 2) return std::nullopt;
  const Value rows = through_identity(graph, node.inputs[0]);
  if (graph.node(rows).op != Op::attention || rows.result != 1) return std::nullopt;
  return GatedRows{rows, node.inputs[1]};
}

Value head_rows(const Graph& graph, Value value) {
  const auto gated = gated_rows(graph, value);
  return gated ? gated->rows : through_identity(graph, value);
}

Value observed_gradient(GraphEditor& editor, const Node& observed, const Node& attention, Value out,
                        Value rows, Value dout, std::optional<Value> drows) {
  std::vector<Value> operands(attention.inputs.begin(), attention.inputs.begin() + 3);  // q, k, v
  operands.insert(operands.end(), {out, rows, dout});
  if (drows) operands.push_back(lse_gradient(editor, *drows, observed.where));
  const std::vector<Value> gradients =
      editor.add_node(Op::attention_score_grad, operands, attention.attrs, observed.where);
  return gradients[observed.op == Op::attention_scores ? 0 : 1];
}

}  // namespace weir
