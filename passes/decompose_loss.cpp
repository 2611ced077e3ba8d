// The cross entropy by its definition, with the whole [N,V] array of logits. The row maximum is
// subtracted first; the target's logit is picked by comparison, so that no gather is needed.
#include "passes/decompose_parts.h"

namespace weir {
namespace {

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

std::vector<Value> decompose_cross_entropy(const OpBuilder& e, const std::vector<Value>& in) {
  return {rows_of(e, in[0], in[1], in[2]).loss};
}

std::vector<Value> decompose_linear_cross_entropy(const OpBuilder& e,
                                                  const std::vector<Value>& in) {
  return {rows_of(e, e.matmul(in[0], in[1], false, true), in[2], in[3]).loss};
}

// dlogits = scale (softmax - one hot) in counted rows; dx = dlogits w, dw = dlogits^T x.
std::vector<Value> decompose_linear_cross_entropy_grad(const OpBuilder& e,
                                                       const std::vector<Value>& in) {
  Value x = in[0], w = in[1];
  Value logits = e.matmul(x, w, false, true);
  Rows rows = rows_of(e, logits, in[2], in[3]);
  Value zero = e.scalar(0, logits), one = e.scalar(1, logits);
  Value probability = e.div(rows.exponential, rows.sum);
  Value excess = e.sub(probability, e.select(rows.is_target, one, zero));
  Value scaled = e.mul(excess, e.as_dtype_of(in[3], logits));
  Value dlogits = e.select(rows.is_counted, scaled, zero);
  return {rows.loss, e.matmul(dlogits, w), e.matmul(dlogits, x, true, false)};
}

}  // namespace weir
