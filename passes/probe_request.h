#pragma once
// The text in which a probe is asked for:
//
//   GLOB[.grad] [: reduction, reduction ...]        blocks.*.attn.hook_v.grad : batch_sum,
//   norm(feature)
//
// Without reductions (or with `raw`) the whole value is taken. Reductions apply from left to right
// and keep the axes they reduce as size 1:
//   batch_sum                      sum over the batch, as sum(batch)
//   sum(axes) mean(axes) max(axes) min(axes) norm(axes)   norm is l2
//   abs square                     of each element
//   select(axis=i) select(axis=i..j) slice(axis,start,limit)   elements of one axis; j is included
// (a norm squares in f32: it is inf for elements from 1.8e19 on and loses those below 1e-19)
// and first of attention weights, without the pattern in memory where an attention node has them
// (of weights that a model computes itself, named ...hook_pattern, from the array):
//   column_mass column_square      sum over queries of a and of a^2: [B,H,S]
//   entropy row_max                of a query's row, in nats: [B,H,T]
//   sink_column sink_column(s)     a[t,s] of every query t on key s (0 if not given): [B,H,T]
//   row_sum                        sum over keys of a: [B,H,T]
//   map(n)                         of an attention node: means of a over cells of at most n groups
//   of queries times n of
//                                  keys (ir/map_cells.h): [B,H,m,m]; before it, slices of the batch
//                                  and of a head may stand
// The pattern and attn_scores themselves, and their gradients (.grad), are arrays [B,H,T,S] that
// take memory, part of the stated peak; slice(head,...) and slice(batch,...) as the first
// reductions compute the part asked for alone. All of these but row_sum and map are of normalised
// weights, a / row_sum, where the attention's normaliser has rows that do not sum to one
// (all but softmax). The pattern itself is raw: hook_pattern : sum(query) is the column mass of the
// weights as they are.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

enum class ReductionKind : uint8_t {
  sum,
  mean,
  max,
  min,
  norm,
  abs,
  square,
  slice,
  column_mass,
  column_square,
  entropy,
  row_max,
  sink_column,
  row_sum,
  map
};

const char* reduction_name(ReductionKind kind);

struct ProbeReduction {
  ReductionKind kind = ReductionKind::sum;
  std::vector<std::string> axes =
      {};             ///< as written: batch, token, head, feature, query, key, axis0 ...
  int64_t start = 0;  ///< of slice; the key of sink_column; n of map
  int64_t limit = 0;  ///< of slice, excluded
};

struct ProbeRequest {
  std::string text;  ///< as given, for messages
  std::string glob;  ///< of hook names, without `.grad`
  bool gradient = false;
  std::vector<ProbeReduction> reductions = {};
};

/// The canonical text of one reduction: "batch_sum", "norm(head,feature)", "slice(token,0,16)".
std::string to_string(const ProbeReduction& reduction);

/// Parses one request; usage errors say what was found and what is known.
ProbeRequest parse_probe_request(std::string_view text);
/// Parses all; one usage error lists everything wrong.
std::vector<ProbeRequest> parse_probe_requests(const std::vector<std::string>& texts);

}  // namespace weir
