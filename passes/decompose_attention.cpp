// Attention by its definition, with the whole [T,S] array of weights: what the attention kernels
// must agree with. The query heads of a group are folded into the rows of one batched product, so
// that keys and values are never repeated: q[B,T,H,d] becomes [B,G,(H/G) T,d].
#include <limits>

#include "ir/map_cells.h"
#include "ir/normalizer.h"
#include "passes/decompose_parts.h"
#include "support/error.h"

namespace weir {
namespace {

struct Sizes {
  int64_t batch, queries, heads, features, keys, groups;
};

Sizes sizes_of(const Emit& e, Value q, Value k) {
  const Shape &a = e.shape(q), &b = e.shape(k);
  return {a[0], a[1], a[2], a[3], b[1], b[2]};
}

// [B,T,H,d] to [B,G,(H/G) T,d], and back.
Value fold_queries(const Emit& e, Value q, const Sizes& s) {
  return e.reshape(e.transpose(q, {0, 2, 1, 3}),
                   {s.batch, s.groups, s.heads / s.groups * s.queries, s.features});
}
Value unfold_queries(const Emit& e, Value x, const Sizes& s) {
  return e.transpose(e.reshape(x, {s.batch, s.heads, s.queries, s.features}), {0, 2, 1, 3});
}

// [B,S,G,d] to [B,G,S,d], which is its own inverse.
Value swap_heads(const Emit& e, Value k) { return e.transpose(k, {0, 2, 1, 3}); }

// [B,H,T,S] to [B,G,(H/G) T,S].
Value fold_rows(const Emit& e, Value a, const Sizes& s) {
  return e.reshape(a, {s.batch, s.groups, s.heads / s.groups * s.queries, s.keys});
}

// scale q k^T as [B,H,T,S].
Value scores_of(const Emit& e, Value q, Value k, const Sizes& s, double scale) {
  Value product = e.matmul(fold_queries(e, q, s), swap_heads(e, k), false, true);
  return e.mul(e.reshape(product, {s.batch, s.heads, s.queries, s.keys}), scale);
}

// x where key s may be seen by query t, else `otherwise`.
Value masked(const Emit& e, Value x, const Sizes& s, bool causal, double otherwise) {
  if (!causal) return x;
  Value row = e.editor().iota(2, i32({1, 1, s.queries, 1}));
  Value column = e.editor().iota(3, i32({1, 1, 1, s.keys}));
  return e.select(e.ge(row, column), x, e.scalar(otherwise, x));
}

struct Weights {
  Value log;  ///< log a[t,s]; 0 where masked, so that products with a stay finite
  Value a;    ///< [B,H,T,S]; 0 where masked
};

Weights weights_of(const Emit& e, Value q, Value k, Value lse, const Sizes& s, const Attrs& attrs) {
  bool causal = attrs.get_bool("causal");
  Value rows = e.reshape(lse, {s.batch, s.heads, s.queries, 1});
  Value log = masked(e, e.sub(scores_of(e, q, k, s, attrs.get_float("scale")), rows), s, causal, 0);
  return {log, masked(e, e.exp(log), s, causal, 0)};
}

// [cell,token]: 1 where the token belongs to the cell, else 0; in the dtype of `one`.
Value cell_members(const Emit& e, const MapCells& cells, Value one) {
  Value cell = e.editor().iota(0, i32({cells.count(), 1}));
  Value token = e.editor().iota(1, i32({1, cells.length}));
  const auto start_of = [&](Value number) {
    Value later = e.add(e.mul(e.sub(number, cells.single), cells.width), cells.single);
    return e.select(e.lt(number, cells.single), number, later);
  };
  Value inside = e.logical_and(e.ge(token, start_of(cell)), e.lt(token, start_of(e.add(cell, 1))));
  return e.select(inside, one, e.scalar(0, one));
}

// log(1 + x) for x >= 0, also where 1 + x rounds to 1: the error of u = 1 + x is divided out.
Value log1p(const Emit& e, Value x) {
  Value one = e.scalar(1, x), u = e.add(x, one), rounded = e.sub(u, one);
  Value is_one = e.eq(u, one);
  Value quotient = e.div(x, e.select(is_one, one, rounded));
  return e.select(is_one, x, e.mul(e.log(u), quotient));
}

struct Row {
  Value maximum;  ///< what scores are taken relative to
  Value divisor;  ///< of the weights exp(score - maximum)
  Value lse;
};

// The last axis of `scores` by its normaliser; every row sees at least one key.
Row normalised_row(const Emit& e, Value scores, AttentionNormalizer normalizer) {
  Row row;
  row.maximum = e.max_last(scores);
  switch (normalizer) {
    case AttentionNormalizer::softmax:
      row.maximum = e.frozen(row.maximum);
      row.divisor = e.sum_last(e.exp(e.sub(scores, row.maximum)));
      row.lse = e.add(row.maximum, e.log(row.divisor));
      return row;
    case AttentionNormalizer::softmax_1: {
      Value zero = e.scalar(0, scores);
      row.maximum = e.frozen(e.maximum(row.maximum, zero));
      Value sum = e.sum_last(e.exp(e.sub(scores, row.maximum)));
      row.divisor = e.add(sum, e.exp(e.neg(row.maximum)));
      row.lse =
          e.select(e.eq(row.maximum, zero), log1p(e, sum), e.add(row.maximum, e.log(row.divisor)));
      return row;
    }
  }
  internal_error_at("unknown normaliser");
}

}  // namespace

std::vector<Value> decompose_attention(const Emit& e, const std::vector<Value>& in,
                                       const Attrs& attrs) {
  Sizes s = sizes_of(e, in[0], in[1]);
  // Every row sees at least one key, so its maximum is finite and exp(-inf - maximum) is 0.
  Value scores = masked(e, scores_of(e, in[0], in[1], s, attrs.get_float("scale")), s,
                        attrs.get_bool("causal"), -std::numeric_limits<double>::infinity());
  Row row = normalised_row(e, scores, normalizer_of(attrs));
  Value a = e.div(e.exp(e.sub(scores, row.maximum)), row.divisor);
  Value out = e.matmul(fold_rows(e, a, s), swap_heads(e, in[2]));
  return {unfold_queries(e, out, s), e.reshape(row.lse, {s.batch, s.heads, s.queries})};
}

// With delta_t = <dout_t, out_t>: da = dout v^T, ds = a (da - delta), dv = a^T dout,
// dq = scale ds k, dk = scale ds^T q.
std::vector<Value> decompose_attention_grad(const Emit& e, const std::vector<Value>& in,
                                            const Attrs& attrs) {
  Value q = in[0], k = in[1], v = in[2], out = in[3], lse = in[4], dout = in[5];
  Sizes s = sizes_of(e, q, k);
  double scale = attrs.get_float("scale");
  Value a = fold_rows(e, weights_of(e, q, k, lse, s, attrs).a, s);
  Value upstream = fold_queries(e, dout, s);
  Value delta = e.sum_last(e.mul(upstream, fold_queries(e, out, s)));
  Value da = e.matmul(upstream, swap_heads(e, v), false, true);
  Value ds = e.mul(e.mul(a, e.sub(da, delta)), scale);
  Value dq = e.matmul(ds, swap_heads(e, k));
  Value dk = e.matmul(ds, fold_queries(e, q, s), true, false);
  Value dv = e.matmul(a, upstream, true, false);
  return {unfold_queries(e, dq, s), swap_heads(e, dk), swap_heads(e, dv)};
}

std::vector<Value> decompose_attention_stats(const Emit& e, const std::vector<Value>& in,
                                             const Attrs& attrs) {
  Sizes s = sizes_of(e, in[0], in[1]);
  Weights weights = weights_of(e, in[0], in[1], in[2], s, attrs);
  Value row_sum = e.sum_last(weights.a);
  if (!info(normalizer_of(attrs)).rows_sum_to_one)
    weights = {e.sub(weights.log, e.log(row_sum)), e.div(weights.a, row_sum)};
  int64_t sink = attrs.get_int("sink");
  Shape columns = {s.batch, s.heads, s.keys}, rows = {s.batch, s.heads, s.queries};
  Value mass = e.reduce_sum(weights.a, {2});
  Value squares = e.reduce_sum(e.mul(weights.a, weights.a), {2});
  Value entropy = e.neg(e.sum_last(e.mul(weights.a, weights.log)));
  Value column = e.slice_axis(weights.a, 3, sink, sink + 1);
  return {e.reshape(mass, columns),
          e.reshape(squares, columns),
          e.reshape(entropy, rows),
          e.reshape(column, rows),
          e.reshape(e.max_last(weights.a), rows),
          e.reshape(row_sum, rows)};
}

// With membership matrices P[cell,t] the sums over cells are P a P^T, and so are the pairs that the
// mask leaves.
std::vector<Value> decompose_attention_map(const Emit& e, const std::vector<Value>& in,
                                           const Attrs& attrs) {
  Sizes s = sizes_of(e, in[0], in[1]);
  const int64_t side = attrs.get_int("side");
  Value a = weights_of(e, in[0], in[1], in[2], s, attrs).a, one = e.scalar(1, a);
  Value pairs = e.op(Op::broadcast, {one}, {{"shape", Shape{1, 1, s.queries, s.keys}}});
  pairs = masked(e, pairs, s, attrs.get_bool("causal"), 0);
  Value rows = cell_members(e, map_cells(s.queries, side), one);
  Value columns = cell_members(e, map_cells(s.keys, side), one);
  const auto sums = [&](Value x) {
    Value by_column = e.transpose(e.matmul(x, columns, false, true), {0, 1, 3, 2});
    return e.transpose(e.matmul(by_column, rows, false, true), {0, 1, 3, 2});
  };
  return {e.div(sums(a), e.maximum(sums(pairs), one))};
}

std::vector<Value> decompose_attention_pattern(const Emit& e, const std::vector<Value>& in,
                                               const Attrs& attrs) {
  Sizes s = sizes_of(e, in[0], in[1]);
  return {weights_of(e, in[0], in[1], in[2], s, attrs).a};
}

}  // namespace weir
