#pragma once
// What probes know of attention: arrays of [queries, keys] that exist only because they are asked
// for. They are cut before they are computed, their statistics are computed without them, and their
// gradients are those of the attention whose weights or scores they show.
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "ir/edit.h"
#include "passes/probe_request.h"

namespace weir {

/// Whether a value is the pattern of an attention node (through identities), whose statistics the
/// attention kernels compute.
bool is_pattern(const Graph& graph, Value value);

/// Whether a value is a result of an op that computes whole arrays [B,H,T,S] of attention.
bool is_whole_attention(const Graph& graph, Value value);

/// Elements start .. limit-1 of one axis of such a value, computed alone: of a batch, of one head
/// or of whole groups. Nothing for other values and cuts.
std::optional<Value> cut_whole_attention(GraphEditor& editor, Value x, int64_t axis, int64_t start,
                                         int64_t limit);

/// One of the statistics of a pattern; all of one sink come from one node.
Value pattern_statistic(GraphEditor& editor, Value pattern, ReductionKind kind, int64_t sink);

/// The means of a pattern over cells of at most `side` groups of queries times as many of keys
/// (ir/map_cells.h).
Value pattern_map(GraphEditor& editor, Value pattern, int64_t side);

/// The same of an array of weights [B,H,T,S] that a model computes itself and that is in memory. As
/// those of the kernels they are of weights divided by their row's sum, but for the sum; a row
/// whose sum is 0 has shares of 0, and an entropy leaves out shares that are not positive.
Value array_statistic(GraphEditor& editor, Value weights, ReductionKind kind, int64_t sink);

/// The attention nodes of a graph, which outlives this, by what they attend with.
class ObservedAttention {
 public:
  explicit ObservedAttention(const Graph& graph);

  /// The attention node whose weights or scores a value shows, as an observation that the loss does
  /// not depend on: the attention that a pattern has its rows from, the only one of the same
  /// queries, keys and scale as scores have. Nothing for other values.
  std::optional<int32_t> of(Value value) const;
  /// Where the gradient arrives that the gradient at such a value is computed from: the output of
  /// its attention; of weights with a gate across heads the product of output and gate, if the
  /// graph has that.
  std::optional<Value> output_of(Value value, int32_t attention) const;

 private:
  const Graph& graph_;
  std::map<std::pair<Value, Value>, std::vector<int32_t>> by_queries_and_keys_;
};

/// The gradient at what such a value shows, given the gradient at output_of() and, where there is
/// one, that at the attention's rows.
Value observed_gradient(GraphEditor& editor, const Node& observed, const Node& attention, Value out,
                        Value rows, Value dout, std::optional<Value> drows);

/// The gradient [B,H,T] at row log-sum-exps, from the gradient at rows [B,H,2,T] as the rule of
/// attention_head_gate makes it.
Value lse_gradient(GraphEditor& editor, Value drows, const SharedText& where = {});

/// The rows that an attention handed on, and the gate [B,H,1,T] that stands behind them in the rows
/// of bayes-softmax.
struct GatedRows {
  Value rows, gate;
};
/// Of a value that is such rows.
std::optional<GatedRows> gated_rows(const Graph& graph, Value value);
/// The rows that an attention handed on, gated or not, behind identities; any other value itself.
Value head_rows(const Graph& graph, Value value);

}  // namespace weir
