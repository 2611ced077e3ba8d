// The cross entropy by its definition, with the whole [N,V] array of logits. The row maximum is
// subtracted first; the target's logit is picked by comparison, so that no gather is needed.
#include "passes/decompose_parts.h"

namespace weir {
namespace {

struct Capped {
  Value logits;
  Value slope;  ///< their derivative, 1 - tanh^2; of logits without a cap none
  bool bent = false;
};

Capped capped(const OpBuilder& e, Value logits, const Attrs& attrs) {
  if (!attrs.has("cap")) return {logits, {}, false};
  const double cap = attrs.get_float("cap");
  Value bent = e.tanh(e.mul(logits, 1 / cap));
  return {e.mul(bent, cap), e.sub(e.scalar(1, bent), e.mul(bent, bent)), true};
}

struct Rows {
  Value exponential;  ///< [N,V] exp(logits - maximum)
  Value sum;          ///< [N,1] their sum
  Value is_target;    ///< [N,V] bool
  Value is_counted;   ///< [N,1] bool: the target is not negative
  Value loss;         ///< [] scale times the sum of the counted rows
};

Rows rows_of(const OpBuilder& e, Value logits, Value targets, Value scale) {
  const Shape shape = e.shape(logits);
  Rows rows;
  Value shifted = e.sub(logits, e.frozen(e.max_last(logits)));
  rows.exponential = e.exp(shifted);
  rows.sum = e.sum_last(rows.exponential);
  Value wanted = e.reshape(targets, {shape[0], 1});
  rows.is_target = e.eq(e.editor().iota(1, i32({1, shape[1]})), wanted);
  rows.is_counted = e.ge(wanted, 0.0);
  Value zero = e.scalar(0, logits);
  Value picked = e.sum_last(e.select(rows.is_target, shifted, zero));
  Value loss = e.select(rows.is_counted, e.sub(e.log(rows.sum), picked), zero);
  Value total = e.reshape(e.reduce_sum(loss, {0}), {});
  rows.loss = e.mul(total, e.as_dtype_of(scale, logits));
  return rows;
}

}  // namespace

std::vector<Value> decompose_cross_entropy(const OpBuilder& e, const std::vector<Value>& in,
                                           const Attrs& attrs) {
  return {rows_of(e, capped(e, in[0], attrs).logits, in[1], in[2]).loss};
}

std::vector<Value> decompose_linear_cross_entropy(const OpBuilder& e, const std::vector<Value>& in,
                                                  const Attrs& attrs) {
  Value logits = e.matmul(in[0], in[1], false, true);
  return {rows_of(e, capped(e, logits, attrs).logits, in[2], in[3]).loss};
}

// dlogits = scale (softmax - one hot) in counted rows; dx = dlogits w, dw = dlogits^T x.
std::vector<Value> decompose_linear_cross_entropy_grad(const OpBuilder& e,
                                                       const std::vector<Value>& in,
                                                       const Attrs& attrs) {
  Value x = in[0], w = in[1];
  const Capped made = capped(e, e.matmul(x, w, false, true), attrs);
  Value logits = made.logits;
  Rows rows = rows_of(e, logits, in[2], in[3]);
  Value zero = e.scalar(0, logits), one = e.scalar(1, logits);
  Value probability = e.div(rows.exponential, rows.sum);
  Value excess = e.sub(probability, e.select(rows.is_target, one, zero));
  if (made.bent) excess = e.mul(excess, made.slope);
  Value scaled = e.mul(excess, e.as_dtype_of(in[3], logits));
  Value dlogits = e.select(rows.is_counted, scaled, zero);
  return {rows.loss, e.matmul(dlogits, w), e.matmul(dlogits, x, true, false)};
}

}  // namespace weir
