// Attention by its definition, with the whole [T,S] array of weights: what the attention kernels
// must agree with. The query heads of a group are folded into the rows of one batched product, so
// that keys and values are never repeated: q[B,T,H,d] becomes [B,G,(H/G) T,d].
#include <cmath>
#include <limits>
#include <memory>

#include "ir/attention_identities.h"
#include "ir/map_cells.h"
#include "ir/normalizer_definition.h"
#include "ir/score_transform.h"
#include "passes/decompose_parts.h"
#include "support/error.h"

namespace weir {
namespace {

struct Sizes {
  int64_t batch, queries, heads, features, keys, groups;
};

Sizes sizes_of(const OpBuilder& e, Value q, Value k) {
  const Shape &a = e.shape(q), &b = e.shape(k);
  return {a[0], a[1], a[2], a[3], b[1], b[2]};
}

// [B,T,H,d] to [B,G,(H/G) T,d], and back.
Value fold_queries(const OpBuilder& e, Value q, const Sizes& s) {
  return e.reshape(e.transpose(q, {0, 2, 1, 3}),
                   {s.batch, s.groups, s.heads / s.groups * s.queries, s.features});
}
Value unfold_queries(const OpBuilder& e, Value x, const Sizes& s) {
  return e.transpose(e.reshape(x, {s.batch, s.heads, s.queries, s.features}), {0, 2, 1, 3});
}

// [B,S,G,d] to [B,G,S,d], which is its own inverse.
Value swap_heads(const OpBuilder& e, Value k) { return e.transpose(k, {0, 2, 1, 3}); }

// [B,H,T,S] to [B,G,(H/G) T,S].
Value fold_rows(const OpBuilder& e, Value a, const Sizes& s) {
  return e.reshape(a, {s.batch, s.groups, s.heads / s.groups * s.queries, s.keys});
}

// Scores as [B,H,T,S] before the mask, but for the part of the scale that comes after them. A
// compiled product is the chain of multiply-adds over features that the attention kernels compute,
// so that it can be compared with their rows' references to the last bit.
Value scores_of(const OpBuilder& e, Value q, Value k, const Sizes& s,
                const ScoreTransform& transform) {
  if (transform.keys_scale != 1) k = e.mul(k, transform.keys_scale);
  Value product = e.matmul(fold_queries(e, q, s), swap_heads(e, k), false, true);
  if (transform.cap != 0) product = e.tanh(e.mul(product, transform.tanh_scale));
  return e.reshape(product, {s.batch, s.heads, s.queries, s.keys});
}

// The gradients of products of queries and keys, folded, from those of scores.
Value product_gradients(const OpBuilder& e, Value ds, Value q, Value k, const Sizes& s,
                        const ScoreTransform& transform) {
  Value gradients = e.mul(ds, transform.scale);
  if (transform.cap == 0) return gradients;
  Value score = fold_rows(e, scores_of(e, q, k, s, transform), s);
  return e.mul(gradients, e.sub(e.scalar(1, score), e.mul(score, score)));
}

// x where key s may be seen by query t, else `otherwise`.
Value masked(const OpBuilder& e, Value x, const Sizes& s, bool causal, double otherwise) {
  if (!causal) return x;
  Value row = e.editor().iota(2, i32({1, 1, s.queries, 1}));
  Value column = e.editor().iota(3, i32({1, 1, 1, s.keys}));
  return e.select(e.ge(row, column), x, e.scalar(otherwise, x));
}

// [cell,token]: 1 where the token belongs to the cell, else 0; in the dtype of `one`.
Value cell_members(const OpBuilder& e, const MapCells& cells, Value one) {
  Value cell = e.editor().iota(0, i32({cells.count(), 1}));
  Value token = e.editor().iota(1, i32({1, cells.length}));
  const auto start_of = [&](Value number) {
    Value later = e.add(e.mul(e.sub(number, cells.single), cells.width), cells.single);
    return e.select(e.lt(number, cells.single), number, later);
  };
  Value inside = e.logical_and(e.ge(token, start_of(cell)), e.lt(token, start_of(e.add(cell, 1))));
  return e.select(inside, one, e.scalar(0, one));
}

// OpBuilder as the arithmetic of ir/normalizer_definition.h.
class Arithmetic : public OpBuilder {
 public:
  explicit Arithmetic(const OpBuilder& e) : OpBuilder(e) {}

  // log(1 + x) for x >= 0, also where 1 + x rounds to 1: the error of u = 1 + x is divided out.
  Value log1p(Value x) const {
    Value one = scalar(1, x), u = add(x, one), rounded = sub(u, one);
    Value is_one = eq(u, one);
    Value quotient = div(x, select(is_one, one, rounded));
    return select(is_one, x, mul(log(u), quotient));
  }
  // A number, or an array that broadcasts to it, in the shape of `like`.
  Value full(Value x, Value like) const {
    return shape(x) == shape(like) ? x : op(Op::broadcast, {x}, {{"shape", shape(like)}});
  }
  Value full(double value, Value like) const { return full(scalar(value, like), like); }
};

using Normalizer = NormalizerDefinition<Arithmetic, Value>;
using Row = NormalizerRow<Value>;

std::unique_ptr<const Normalizer> normalizer_definition_of(const Attrs& attrs) {
  return define_normalizer<Arithmetic, Value>(normalizer_of(attrs));
}

// How many keys each query sees, as [1,1,T or 1,1] in the dtype of `like`.
Value keys_seen(const OpBuilder& e, const Sizes& s, bool causal, Value like) {
  if (!causal) return e.scalar(static_cast<double>(s.keys), like);
  Value index = e.editor().iota(2, i32({1, 1, s.queries, 1}));
  return e.as_dtype_of(e.add(index, 1), like);
}

// The numbers of rows[B,H,2 or more,T], each in the shape given.
Row split_rows(const OpBuilder& e, Value rows, const Shape& shape, const Attrs& attrs) {
  const NormalizerInfo& normalizer = info(normalizer_of(attrs));
  const auto number = [&](int64_t i) { return e.reshape(e.slice_axis(rows, 2, i, i + 1), shape); };
  Row row;
  row.reference = number(0);
  row.terms = number(1);
  row.numerators = number(normalizer.sums);
  row.extra = number(normalizer.row_numbers() - 1);
  row.scale = score_transform(attrs).difference_scale;
  return row;
}

struct Weights {
  Value score;  ///< [B,H,T,S], not scaled; 0 where masked
  /// score - reference; where masked that of the normaliser's masked score, or 0 if that is
  /// infinite, so that products with a stay finite.
  Value difference;
  Row row;      ///< [B,H,T,1]
  Value a;      ///< [B,H,T,S]; 0 where masked
  Value share;  ///< the same divided by the row's sum
};

Weights weights_of(const OpBuilder& e, Value q, Value k, Value rows, const Sizes& s,
                   const Attrs& attrs) {
  const ScoreTransform transform = score_transform(attrs);
  const auto normalizer = normalizer_definition_of(attrs);
  const Arithmetic math(e);
  Weights w;
  w.row = split_rows(e, rows, {s.batch, s.heads, s.queries, 1}, attrs);
  Value scores = scores_of(e, q, k, s, transform);
  const double hidden = normalizer->masked_score();
  if (std::isfinite(hidden)) scores = masked(e, scores, s, transform.causal, hidden);
  w.score = masked(e, scores, s, transform.causal, 0);
  w.difference = e.mul(e.sub(scores, w.row.reference), transform.difference_scale);
  if (!std::isfinite(hidden)) w.difference = masked(e, w.difference, s, transform.causal, 0);
  const auto divided = [&](Value divisor) {
    Value numerator = normalizer->numerator(math, w.difference, w.row);
    return masked(e, e.div(numerator, divisor), s, transform.causal, 0);
  };
  w.a = divided(normalizer->divisor(math, w.row));
  w.share = divided(normalizer->share_divisor(math, w.row));
  return w;
}

}  // namespace

std::vector<Value> decompose_attention(const OpBuilder& e, const std::vector<Value>& in,
                                       const Attrs& attrs) {
  Sizes s = sizes_of(e, in[0], in[1]);
  const ScoreTransform transform = score_transform(attrs);
  const auto normalizer = normalizer_definition_of(attrs);
  const Arithmetic math(e);
  // Every row sees at least one key, so that its reference is a number.
  Value scores = masked(e, scores_of(e, in[0], in[1], s, transform), s, transform.causal,
                        normalizer->masked_score());
  const NormalizerInfo& numbers_of = info(normalizer_of(attrs));
  Value keys = keys_seen(e, s, transform.causal, scores);
  Row row;
  row.scale = transform.difference_scale;
  row.reference =
      e.frozen(normalizer->reference(math, e.max_last(scores), keys, transform.difference_scale));
  const bool takes_other = numbers_of.extra == RowExtra::other;
  row.extra = takes_other ? e.reshape(in[3], {s.batch, s.heads, s.queries, 1}) : keys;
  Value difference = e.mul(e.sub(scores, row.reference), transform.difference_scale);
  Value numerator = normalizer->numerator(math, difference, row);
  row.terms = e.sum_last(normalizer->term(math, numerator, difference, row));
  Value a = e.div(numerator, normalizer->divisor(math, row));
  Value out = e.matmul(fold_rows(e, a, s), swap_heads(e, in[2]));
  const Shape half = {s.batch, s.heads, 1, s.queries};
  std::vector<Value> numbers = {e.reshape(row.reference, half), e.reshape(row.terms, half)};
  if (numbers_of.sums == 2) numbers.push_back(e.reshape(e.sum_last(numerator), half));
  switch (numbers_of.extra) {
    case RowExtra::none:
      break;
    case RowExtra::keys:
      numbers.push_back(e.reshape(math.full(keys, row.reference), half));
      break;
    case RowExtra::other:
      numbers.push_back(e.reshape(row.extra, half));
      break;
    case RowExtra::gate:
      internal_error_at("an attention node has no gate across heads");
  }
  return {unfold_queries(e, out, s), e.concat(numbers, 2)};
}

std::vector<Value> decompose_attention_lse(const OpBuilder& e, const std::vector<Value>& in,
                                           const Attrs& attrs) {
  const Shape rows = e.shape(in[0]);
  const Row row = split_rows(e, in[0], {rows[0], rows[1], rows[3]}, attrs);
  return {normalizer_definition_of(attrs)->log_divisor(Arithmetic(e), row)};
}

// H exp(u) / sum over heads of exp(u) with u = lse - b, all heads relative to one reference before
// they are scaled, as a log-sum-exp is rounded to its own size. A head that sees only scores of
// minus infinity has a gate of zero.
std::vector<Value> decompose_attention_head_gate(const OpBuilder& e, const std::vector<Value>& in,
                                                 const Attrs& attrs) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const Shape rows = e.shape(in[0]);  // [B,H,2,T]
  const auto by_head = [&](int64_t i) {
    Value number = e.reshape(e.slice_axis(in[0], 2, i, i + 1), {rows[0], rows[1], rows[3]});
    return e.transpose(number, {0, 2, 1});
  };
  Value reference = by_head(0), terms = by_head(1);
  Value none = e.eq(terms, e.scalar(0, terms));
  Value log = e.log(e.select(none, e.scalar(1, terms), terms));
  Value away =
      e.mul(e.sub(reference, e.max_last(reference)), score_transform(attrs).difference_scale);
  Value u = e.sub(e.add(away, log), in[1]);
  u = e.select(none, e.scalar(-kInfinity, u), u);
  Value lowest = e.scalar(std::numeric_limits<float>::lowest(), u);
  Value share = e.exp(e.sub(u, e.maximum(e.max_last(u), lowest)));
  Value sum = e.sum_last(share);
  sum = e.select(e.eq(sum, e.scalar(0, sum)), e.scalar(1, sum), sum);
  return {e.mul(e.div(share, sum), static_cast<double>(rows[1]))};
}

namespace {

// Folded: query heads of a group as rows of one product.
struct ScoreGradients {
  Value upstream;  ///< dout
  Value a;         ///< weights
  Value da, ds;    ///< gradients at weights, at scores
};

// With delta_t = <dout_t, out_t>: da = dout v^T, ds by the normaliser, and a dlse on top.
ScoreGradients score_gradients(const OpBuilder& e, const std::vector<Value>& in, const Sizes& s,
                               const Attrs& attrs) {
  Value q = in[0], k = in[1], v = in[2], out = in[3], rows = in[4], dout = in[5];
  ScoreGradients g;
  const Weights w = weights_of(e, q, k, rows, s, attrs);
  g.a = fold_rows(e, w.a, s);
  g.upstream = fold_queries(e, dout, s);
  Value delta = e.sum_last(e.mul(g.upstream, fold_queries(e, out, s)));
  g.da = e.matmul(g.upstream, swap_heads(e, v), false, true);
  const auto folded = [&](Value number) {
    return e.reshape(number, {s.batch, s.groups, s.heads / s.groups * s.queries, 1});
  };
  const Row row{folded(w.row.reference), folded(w.row.terms), folded(w.row.numerators),
                folded(w.row.extra), w.row.scale};
  g.ds = normalizer_definition_of(attrs)->score_gradient(
      Arithmetic(e), {g.a, fold_rows(e, w.score, s), fold_rows(e, w.difference, s), row}, g.da,
      delta);
  if (in.size() > 6) g.ds = e.add(g.ds, e.mul(g.a, folded(in[6])));
  return g;
}

}  // namespace

// dv = a^T dout, dq = scale ds k, dk = scale ds^T q.
std::vector<Value> decompose_attention_grad(const OpBuilder& e, const std::vector<Value>& in,
                                            const Attrs& attrs) {
  Value q = in[0], k = in[1];
  Sizes s = sizes_of(e, q, k);
  ScoreGradients g = score_gradients(e, in, s, attrs);
  Value ds = product_gradients(e, g.ds, q, k, s, score_transform(attrs));
  Value dq = e.matmul(ds, swap_heads(e, k));
  Value dk = e.matmul(ds, fold_queries(e, q, s), true, false);
  Value dv = e.matmul(g.a, g.upstream, true, false);
  return {unfold_queries(e, dq, s), swap_heads(e, dk), swap_heads(e, dv)};
}

std::vector<Value> decompose_attention_score_grad(const OpBuilder& e, const std::vector<Value>& in,
                                                  const Attrs& attrs) {
  Sizes s = sizes_of(e, in[0], in[1]);
  ScoreGradients g = score_gradients(e, in, s, attrs);
  const Shape all = {s.batch, s.heads, s.queries, s.keys};
  return {e.reshape(g.ds, all), e.reshape(g.da, all)};
}

std::vector<Value> decompose_attention_scores(const OpBuilder& e, const std::vector<Value>& in,
                                              const Attrs& attrs) {
  Sizes s = sizes_of(e, in[0], in[1]);
  const ScoreTransform transform = score_transform(attrs);
  Value scores = e.mul(scores_of(e, in[0], in[1], s, transform), transform.difference_scale);
  return {masked(e, scores, s, transform.causal, -std::numeric_limits<double>::infinity())};
}

std::vector<Value> decompose_attention_stats(const OpBuilder& e, const std::vector<Value>& in,
                                             const Attrs& attrs) {
  Sizes s = sizes_of(e, in[0], in[1]);
  Weights weights = weights_of(e, in[0], in[1], in[2], s, attrs);
  Value row_sum = e.sum_last(weights.a);
  const auto normalizer = normalizer_definition_of(attrs);
  const Arithmetic math(e);
  Value log = e.sub(normalizer->log_numerator(math, weights.difference, weights.row),
                    e.log(normalizer->share_divisor(math, weights.row)));
  int64_t sink = attrs.get_int("sink");
  Shape columns = {s.batch, s.heads, s.keys}, rows = {s.batch, s.heads, s.queries};
  Value column_sum = e.reduce_sum(weights.share, {2});
  Value column_sum_sq = e.reduce_sum(e.mul(weights.share, weights.share), {2});
  Value entropy = e.neg(e.sum_last(e.mul(weights.share, log)));
  Value sink_column = e.slice_axis(weights.share, 3, sink, sink + 1);
  return {e.reshape(column_sum, columns),
          e.reshape(column_sum_sq, columns),
          e.reshape(entropy, rows),
          e.reshape(sink_column, rows),
          e.reshape(e.max_last(weights.share), rows),
          e.reshape(row_sum, rows)};
}

// Every number as an array [B,H,T,S] that is then summed; query heads are not folded, as each has
// gradients of its own.
std::vector<Value> decompose_attention_identities(const OpBuilder& e, const std::vector<Value>& in,
                                                  const Attrs& attrs) {
  const Sizes s = sizes_of(e, in[0], in[1]);
  const ScoreTransform transform = score_transform(attrs);
  const bool takes_other = takes_other_score(normalizer_of(attrs));
  std::vector<Value> operands = {in[0], in[1], in[2]};
  if (takes_other) operands.push_back(in[5]);
  const Value rows = decompose_attention(e, operands, attrs)[1];
  const Value a = weights_of(e, in[0], in[1], rows, s, attrs).a;
  const Value one = e.scalar(1, a);
  const auto seen = [&](Value x) { return masked(e, x, s, transform.causal, 0); };
  const auto by_head = [&](Value x) { return e.transpose(x, {0, 2, 1, 3}); };  // [B,H,T,d]
  const auto keys_by_head = [&](Value x) {                                     // [B,H,S,d]
    const Value split = e.reshape(by_head(x), {s.batch, s.groups, 1, s.keys, s.features});
    const Shape each{s.batch, s.groups, s.heads / s.groups, s.keys, s.features};
    return e.reshape(e.op(Op::broadcast, {split}, {{"shape", each}}),
                     {s.batch, s.heads, s.keys, s.features});
  };
  const auto norm = [&](Value x) { return e.sqrt(e.sum_last(e.mul(x, x))); };
  const auto as_row = [&](Value x) { return e.transpose(x, {0, 1, 3, 2}); };
  const Value Q = by_head(in[0]), K = keys_by_head(in[1]), V = keys_by_head(in[2]);
  const Value Y = by_head(in[3]), G = by_head(in[4]);
  const Value g = norm(G), q = norm(Q), gy = e.sum_last(e.mul(G, Y));  // [B,H,T,1]
  Value differences = e.sub(e.matmul(G, V, false, true), gy), of_lse;
  if (in.size() > 5 && !takes_other) {
    of_lse = e.reshape(in[5], {s.batch, s.heads, s.queries, 1});
    differences = e.add(differences, of_lse);
  }
  const Value beta = seen(differences);
  const Value weighted = e.mul(a, beta);
  Value size_of_beta = e.mul(g, e.add(as_row(norm(V)), norm(Y)));
  if (of_lse.valid()) size_of_beta = e.add(size_of_beta, e.abs(of_lse));
  const Value error = e.mul(e.abs(a), size_of_beta);
  Value slope = weighted;
  if (transform.cap != 0) {
    const Value score = scores_of(e, in[0], in[1], s, transform);
    slope = e.mul(slope, e.sub(one, e.mul(score, score)));
  }
  const double size = std::abs(transform.scale);
  // |k - kbar| from the differences themselves, which a formula by squares would lose.
  const Value means = e.matmul(a, K);  // [B,H,T,d]
  const Value away = e.sub(e.reshape(K, {s.batch, s.heads, 1, s.keys, s.features}),
                           e.reshape(means, {s.batch, s.heads, s.queries, 1, s.features}));
  const Value distance = e.reshape(norm(away), {s.batch, s.heads, s.queries, s.keys});

  const auto all = [&](Value x) {  // of a pair, where it is seen
    return seen(e.op(Op::broadcast, {x}, {{"shape", Shape{s.batch, s.heads, s.queries, s.keys}}}));
  };
  const auto by_key = [&](Value x, bool largest = false) {
    return e.reshape(largest ? e.reduce_max(x, {2}) : e.reduce_sum(x, {2}),
                     {s.batch, s.heads, 1, s.keys});
  };
  const auto by_query = [&](Value x) {
    return e.reshape(e.sum_last(x), {s.batch, s.heads, 1, s.queries});
  };
  std::vector<Value> keys(kKeyNumbers), queries(kQueryNumbers);
  const auto set = [](std::vector<Value>& list, auto number, Value x) {
    list[static_cast<size_t>(number)] = x;
  };
  set(keys, KeyNumber::mass, by_key(a));
  set(keys, KeyNumber::square, by_key(e.mul(a, a)));
  set(keys, KeyNumber::value_scale, by_key(e.mul(e.abs(a), g)));
  set(keys, KeyNumber::gradient_square, by_key(all(e.mul(g, g))));
  set(keys, KeyNumber::largest_gradient, by_key(all(g), true));
  set(keys, KeyNumber::largest_beta, by_key(e.abs(beta), true));
  set(keys, KeyNumber::largest_query, by_key(all(q), true));
  set(keys, KeyNumber::key_scale, by_key(e.mul(e.mul(error, q), size)));
  set(queries, QueryNumber::row_sum, by_query(weighted));
  set(queries, QueryNumber::row_scale, by_query(error));
  set(queries, QueryNumber::query_scale, by_query(e.mul(e.mul(error, as_row(norm(K))), size)));
  set(queries, QueryNumber::query_bound, by_query(e.mul(e.mul(e.abs(weighted), distance), size)));
  set(queries, QueryNumber::weight_sum, by_query(a));
  set(queries, QueryNumber::gradient_output, e.reshape(gy, {s.batch, s.heads, 1, s.queries}));
  return {by_head(e.matmul(a, G, true, false)),
          by_head(e.mul(e.matmul(slope, Q, true, false), transform.scale)),
          by_head(e.mul(e.matmul(slope, K), transform.scale)), e.concat(keys, 2),
          e.concat(queries, 2)};
}

// With membership matrices P[cell,t] the sums over cells are P a P^T, and so are the pairs that the
// mask leaves.
std::vector<Value> decompose_attention_map(const OpBuilder& e, const std::vector<Value>& in,
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

std::vector<Value> decompose_attention_pattern(const OpBuilder& e, const std::vector<Value>& in,
                                               const Attrs& attrs) {
  Sizes s = sizes_of(e, in[0], in[1]);
  return {weights_of(e, in[0], in[1], in[2], s, attrs).a};
}

}  // namespace weir
