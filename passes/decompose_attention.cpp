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

// q k^T as [B,H,T,S], with the part of the scale that comes before. A compiled product is the chain
// of multiply-adds over features that the attention kernels compute, so that it can be compared
// with their rows' references to the last bit.
Value products_of(const Emit& e, Value q, Value k, const Sizes& s, const ScoreScale& scale) {
  if (scale.keys != 1) k = e.mul(k, scale.keys);
  Value product = e.matmul(fold_queries(e, q, s), swap_heads(e, k), false, true);
  return e.reshape(product, {s.batch, s.heads, s.queries, s.keys});
}

// x where key s may be seen by query t, else `otherwise`.
Value masked(const Emit& e, Value x, const Sizes& s, bool causal, double otherwise) {
  if (!causal) return x;
  Value row = e.editor().iota(2, i32({1, 1, s.queries, 1}));
  Value column = e.editor().iota(3, i32({1, 1, 1, s.keys}));
  return e.select(e.ge(row, column), x, e.scalar(otherwise, x));
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

// What products are taken relative to, given the largest that a query sees.
Value reference_of(const Emit& e, Value largest, AttentionNormalizer normalizer) {
  switch (normalizer) {
    case AttentionNormalizer::softmax:
      return e.frozen(largest);
    case AttentionNormalizer::softmax_1:
      return e.frozen(e.maximum(largest, e.scalar(std::numeric_limits<float>::lowest(), largest)));
  }
  internal_error_at("unknown normaliser");
}

// Of rows of scores, any shape of one number a row.
struct Row {
  Value reference;  ///< not scaled yet
  Value sum;        ///< of exp(score - reference)
};

// What the exponentials of a row are divided by.
Value divisor_of(const Emit& e, const Row& row, AttentionNormalizer normalizer,
                 const ScoreScale& scale) {
  switch (normalizer) {
    case AttentionNormalizer::softmax:
      return row.sum;
    case AttentionNormalizer::softmax_1:
      return e.add(row.sum, e.exp(e.mul(row.reference, -scale.difference)));
  }
  internal_error_at("unknown normaliser");
}

// The two halves of rows[B,H,2,T], each in the shape given.
Row split_rows(const Emit& e, Value rows, const Shape& shape) {
  return {e.reshape(e.slice_axis(rows, 2, 0, 1), shape),
          e.reshape(e.slice_axis(rows, 2, 1, 2), shape)};
}

struct Weights {
  Value difference;  ///< score - reference; 0 where masked, so that products with a stay finite
  Value sum;         ///< [B,H,T,1] of relative weights
  Value a;           ///< [B,H,T,S]; 0 where masked
  Value share;       ///< the same divided by the row's sum
};

Weights weights_of(const Emit& e, Value q, Value k, Value rows, const Sizes& s,
                   const Attrs& attrs) {
  const bool causal = attrs.get_bool("causal");
  const ScoreScale scale = score_scale(attrs);
  Weights w;
  const Row row = split_rows(e, rows, {s.batch, s.heads, s.queries, 1});
  w.sum = row.sum;
  Value difference = e.sub(products_of(e, q, k, s, scale), row.reference);
  w.difference = masked(e, e.mul(difference, scale.difference), s, causal, 0);
  const auto divided = [&](Value divisor) {
    return masked(e, e.div(e.exp(w.difference), divisor), s, causal, 0);
  };
  w.a = divided(divisor_of(e, row, normalizer_of(attrs), scale));
  w.share = divided(row.sum);
  return w;
}

}  // namespace

std::vector<Value> decompose_attention(const Emit& e, const std::vector<Value>& in,
                                       const Attrs& attrs) {
  Sizes s = sizes_of(e, in[0], in[1]);
  const ScoreScale scale = score_scale(attrs);
  const AttentionNormalizer normalizer = normalizer_of(attrs);
  // Every row sees at least one key, so its reference is finite and exp(-inf - reference) is 0.
  Value products = masked(e, products_of(e, in[0], in[1], s, scale), s, attrs.get_bool("causal"),
                          -std::numeric_limits<double>::infinity());
  Row row;
  row.reference = reference_of(e, e.max_last(products), normalizer);
  Value relative = e.exp(e.mul(e.sub(products, row.reference), scale.difference));
  row.sum = e.sum_last(relative);
  Value a = e.div(relative, divisor_of(e, row, normalizer, scale));
  Value out = e.matmul(fold_rows(e, a, s), swap_heads(e, in[2]));
  const Shape half = {s.batch, s.heads, 1, s.queries};
  return {unfold_queries(e, out, s),
          e.concat({e.reshape(row.reference, half), e.reshape(row.sum, half)}, 2)};
}

std::vector<Value> decompose_attention_lse(const Emit& e, const std::vector<Value>& in,
                                           const Attrs& attrs) {
  const Shape rows = e.shape(in[0]);
  const AttentionNormalizer normalizer = normalizer_of(attrs);
  const ScoreScale scale = score_scale(attrs);
  const Row row = split_rows(e, in[0], {rows[0], rows[1], rows[3]});
  Value lse =
      e.add(e.mul(row.reference, scale.difference), e.log(divisor_of(e, row, normalizer, scale)));
  if (normalizer == AttentionNormalizer::softmax_1) {
    // Beside the 1 of a score of zero a small sum would be lost.
    Value sum = e.mul(row.sum, e.exp(e.mul(row.reference, scale.difference)));
    lse = e.select(e.le(row.reference, 0.0), log1p(e, sum), lse);
  }
  return {lse};
}

namespace {

// Folded: query heads of a group as rows of one product.
struct ScoreGradients {
  Value upstream;  ///< dout
  Value a;         ///< weights
  Value da, ds;    ///< gradients at weights, at scores
};

// With delta_t = <dout_t, out_t>: da = dout v^T, ds = a (da - delta). A weight of one is all of its
// row: its ds is exactly zero.
ScoreGradients score_gradients(const Emit& e, const std::vector<Value>& in, const Sizes& s,
                               const Attrs& attrs) {
  Value q = in[0], k = in[1], v = in[2], out = in[3], rows = in[4], dout = in[5];
  ScoreGradients g;
  g.a = fold_rows(e, weights_of(e, q, k, rows, s, attrs).a, s);
  g.upstream = fold_queries(e, dout, s);
  Value delta = e.sum_last(e.mul(g.upstream, fold_queries(e, out, s)));
  g.da = e.matmul(g.upstream, swap_heads(e, v), false, true);
  Value whole = e.eq(g.a, e.scalar(1, g.a));
  g.ds = e.mul(g.a, e.sub(g.da, e.select(whole, g.da, delta)));
  return g;
}

}  // namespace

// dv = a^T dout, dq = scale ds k, dk = scale ds^T q.
std::vector<Value> decompose_attention_grad(const Emit& e, const std::vector<Value>& in,
                                            const Attrs& attrs) {
  Value q = in[0], k = in[1];
  Sizes s = sizes_of(e, q, k);
  ScoreGradients g = score_gradients(e, in, s, attrs);
  Value ds = e.mul(g.ds, attrs.get_float("scale"));
  Value dq = e.matmul(ds, swap_heads(e, k));
  Value dk = e.matmul(ds, fold_queries(e, q, s), true, false);
  Value dv = e.matmul(g.a, g.upstream, true, false);
  return {unfold_queries(e, dq, s), swap_heads(e, dk), swap_heads(e, dv)};
}

std::vector<Value> decompose_attention_score_grad(const Emit& e, const std::vector<Value>& in,
                                                  const Attrs& attrs) {
  Sizes s = sizes_of(e, in[0], in[1]);
  ScoreGradients g = score_gradients(e, in, s, attrs);
  const Shape all = {s.batch, s.heads, s.queries, s.keys};
  return {e.reshape(g.ds, all), e.reshape(g.da, all)};
}

std::vector<Value> decompose_attention_scores(const Emit& e, const std::vector<Value>& in,
                                              const Attrs& attrs) {
  Sizes s = sizes_of(e, in[0], in[1]);
  const ScoreScale scale = score_scale(attrs);
  Value scores = e.mul(products_of(e, in[0], in[1], s, scale), scale.difference);
  return {masked(e, scores, s, attrs.get_bool("causal"), -std::numeric_limits<double>::infinity())};
}

std::vector<Value> decompose_attention_stats(const Emit& e, const std::vector<Value>& in,
                                             const Attrs& attrs) {
  Sizes s = sizes_of(e, in[0], in[1]);
  Weights weights = weights_of(e, in[0], in[1], in[2], s, attrs);
  Value row_sum = e.sum_last(weights.a);
  Value log = e.sub(weights.difference, e.log(weights.sum));
  int64_t sink = attrs.get_int("sink");
  Shape columns = {s.batch, s.heads, s.keys}, rows = {s.batch, s.heads, s.queries};
  Value mass = e.reduce_sum(weights.share, {2});
  Value squares = e.reduce_sum(e.mul(weights.share, weights.share), {2});
  Value entropy = e.neg(e.sum_last(e.mul(weights.share, log)));
  Value column = e.slice_axis(weights.share, 3, sink, sink + 1);
  return {e.reshape(mass, columns),
          e.reshape(squares, columns),
          e.reshape(entropy, rows),
          e.reshape(column, rows),
          e.reshape(e.max_last(weights.share), rows),
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
