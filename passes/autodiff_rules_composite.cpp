// Rules of the contractions and of the composites that have one of their own.
#include <fmt/format.h>

#include "ir/score_transform.h"
#include "passes/attention_probes.h"
#include "passes/autodiff_rules.h"

namespace weir {
namespace {

// x[..., n, m] as one matrix [prod(...) n, m].
Value flatten(Pullback& p, Value x) {
  const Type type = p.type(x);
  int64_t columns = type.shape.back();
  return p.reshape(x, {type.elements() / columns, columns});
}

}  // namespace

// y = A B (+ c) with A = a or a^T, B = b or b^T: dA = dy B^T, dB = A^T dy, each computed directly
// in the layout of its operand. A two-dimensional b that serves a batch gets one product over all
// rows: for a weight [out, in] the gradient is dy^T x, again [out, in].
void pull_back_matmul(Pullback& p) {
  Value a = p.in(0), b = p.in(1), dy = p.dy();
  bool transpose_a = p.attrs().get_bool("transpose_a");
  bool transpose_b = p.attrs().get_bool("transpose_b");
  bool shared = p.shape(1).size() == 2 && p.shape(0).size() > 2;
  p.accumulate(0, [&] {
    if (!transpose_a) return p.matmul(dy, b, false, !transpose_b);
    if (shared) return p.transpose_last(p.matmul(dy, b, false, !transpose_b));
    return p.matmul(b, dy, transpose_b, true);
  });
  p.accumulate(1, [&] {
    Value rows = a, gradient = dy;
    bool transposed = transpose_a;
    if (shared) {
      rows = flatten(p, transpose_a ? p.transpose_last(a) : a);
      gradient = flatten(p, dy);
      transposed = false;
    }
    return transpose_b ? p.matmul(gradient, rows, true, transposed)
                       : p.matmul(rows, gradient, !transposed, false);
  });
  if (p.operands() == 3) p.accumulate(2, dy);
}

// dx = y (dy - sum(dy y)).
void pull_back_softmax(Pullback& p) {
  Value y = p.out();
  p.accumulate(0, p.mul(y, p.sub(p.dy(), p.sum_last(p.mul(p.dy(), y)))));
}

// With r = 1/sqrt(mean x^2 + eps), xhat = x r and g = dy gamma:
// dx = r (g - xhat mean(g xhat)), dgamma = sum over rows of dy xhat.
void pull_back_rms_norm(Pullback& p) {
  Value x = p.in(0), dy = p.dy();
  const double eps = p.attrs().get_float("eps");
  Value r = p.add_op(Op::rsqrt, {p.add(p.mean_square_last(x, eps), p.scalar_like(eps, x))});
  Value xhat = p.mul(x, r);
  p.accumulate(0, [&] {
    Value g = p.mul(dy, p.in(1));
    return p.mul(r, p.sub(g, p.mul(xhat, p.mean_last(p.mul(g, xhat)))));
  });
  p.accumulate(1, [&] { return p.mul(dy, xhat); });
}

// As rms_norm with x - mean(x) for x: dx = r (g - mean(g) - xhat mean(g xhat)), dbeta = sum dy.
void pull_back_layer_norm(Pullback& p) {
  Value x = p.in(0), dy = p.dy();
  Value centred = p.sub(x, p.mean_last(x));
  const double eps = p.attrs().get_float("eps");
  Value r = p.add_op(Op::rsqrt, {p.add(p.mean_square_last(centred, eps), p.scalar_like(eps, x))});
  Value xhat = p.mul(centred, r);
  p.accumulate(0, [&] {
    Value g = p.mul(dy, p.in(1));
    Value centred_g = p.sub(g, p.mean_last(g));
    return p.mul(r, p.sub(centred_g, p.mul(xhat, p.mean_last(p.mul(g, xhat)))));
  });
  p.accumulate(1, [&] { return p.mul(dy, xhat); });
  if (p.operands() == 3) p.accumulate(2, dy);
}

// A rotation is orthogonal: its gradient is rotated back (and multiplied by the same amplitude).
void pull_back_rope(Pullback& p) {
  Attrs attrs = p.attrs();
  bool inverse = attrs.get_bool("inverse");
  attrs.erase("inverse");
  if (!inverse) attrs.set("inverse", true);
  p.accumulate(0, p.add_op(Op::rope, {p.dy()}, attrs));
}

// The gradient at the score z of the other key of a query: it has the weight
// w = 1 / (1 + sum exp(reference - z)) and no value, so that dL/dz = -w <dout, out>.
static Value other_score_gradient(Pullback& p) {
  const Shape rows = p.type(p.out(1)).shape;  // [B,H,3,T]
  const auto number = [&](int64_t i) {
    Value row = p.add_op(
        Op::slice, {p.out(1)},
        {{"starts", Shape{0, 0, i, 0}}, {"limits", Shape{rows[0], rows[1], i + 1, rows[3]}}});
    return p.reshape(row, {rows[0], rows[1], rows[3]});
  };
  Value reference = p.mul(number(0), score_transform(p.attrs()).difference_scale);
  Value others = p.mul(number(1), p.add_op(Op::exp, {p.sub(reference, p.in(3))}));
  Value one = p.scalar_like(1, others);
  Value weight = p.div(one, p.add(one, others));
  Value delta = p.sum_last(p.mul(p.dy(), p.out(0)));  // [B,T,H,1]
  delta = p.transpose(p.reshape(delta, {rows[0], rows[3], rows[1]}), {0, 2, 1});
  return p.neg(p.mul(weight, delta));
}

void pull_back_attention(Pullback& p) {
  Value out = p.out(0);
  Value dout =
      p.upstream(0) ? *p.upstream(0) : p.broadcast(p.scalar_like(0, out), p.type(out).shape);
  std::vector<Value> operands = {p.in(0), p.in(1), p.in(2), out, p.out(1), dout};
  if (p.upstream(1)) operands.push_back(lse_gradient(p.editor(), *p.upstream(1), p.node().where));
  std::vector<Value> gradients = p.add_node(Op::attention_grad, operands, p.attrs());
  for (size_t i = 0; i < 3; ++i) p.accumulate(i, [&] { return gradients[i]; });
  if (p.operands() == 4) p.accumulate(3, [&] { return other_score_gradient(p); });
}

// With gates g = H softmax_h(u), u = lse - b: du = g (dg - mean over heads of g dg). At the rows
// that is the gradient at their log-sum-exp, which stands in the place of their sum; a reference is
// a constant, on which the log-sum-exp does not depend.
void pull_back_attention_head_gate(Pullback& p) {
  const Shape rows = p.shape(0);  // [B,H,2,T]
  const auto heads = static_cast<double>(rows[1]);
  Value mean = p.mul(p.sum_last(p.mul(p.out(), p.dy())), 1 / heads);
  Value du = p.mul(p.out(), p.sub(p.dy(), mean));  // [B,T,H]
  p.accumulate(0, [&] {
    const Shape half = {rows[0], rows[1], 1, rows[3]};
    Value of_lse = p.reshape(p.transpose(du, {0, 2, 1}), half);
    Value none = p.broadcast(p.scalar_like(0, of_lse), half);
    return p.add_op(Op::concat, {none, of_lse}, {{"axis", int64_t{2}}});
  });
  p.accumulate(1, [&] { return p.reshape(p.sum(p.neg(du), {0, 1}), {rows[1]}); });
}

// d(scale sum_i -log softmax(logits_i)[target_i]) = scale (softmax(logits) - onehot(target)), 0 in
// rows whose target is negative; times 1 - tanh^2 where a cap bends them.
void pull_back_cross_entropy(Pullback& p) {
  Value logits = p.in(0), targets = p.in(1), scale = p.in(2);
  const Shape shape = p.shape(0);
  const Attrs attrs = p.attrs();
  const double cap = attrs.has("cap") ? attrs.get_float("cap") : 0;
  p.accumulate(0, [&] {
    Value bent = logits;
    if (cap != 0) bent = p.add_op(Op::tanh, {p.mul(logits, p.scalar_like(1 / cap, logits))});
    Value capped = cap != 0 ? p.mul(bent, p.scalar_like(cap, logits)) : logits;
    Value zero = p.scalar_like(0, logits);
    Value column = p.reshape(targets, {shape[0], 1});
    Value index = p.editor().iota(1, i32({1, shape[1]}));
    Value chosen = p.add_op(Op::eq, {index, column});
    Value onehot = p.select(chosen, p.scalar_like(1, logits), zero);
    Value ignored = p.add_op(Op::lt, {column, p.scalar(0, DType::i32)});
    Value error = p.sub(p.add_op(Op::softmax, {capped}), onehot);
    if (cap != 0) error = p.mul(error, p.sub(p.scalar_like(1, bent), p.mul(bent, bent)));
    return p.zero_where(ignored, p.mul(error, p.mul(p.dy(), scale)));
  });
  p.accumulate(2, [&] {
    Value plain = p.add_op(Op::cross_entropy, {logits, targets, p.scalar_like(1, scale)}, attrs);
    return p.mul(p.dy(), plain);
  });
}

// The node gives its gradients along with the loss; they only wait for the upstream factor.
void pull_back_linear_cross_entropy_grad(Pullback& p) {
  if (p.upstream(1) || p.upstream(2)) {
    p.problem(
        "the loss depends on the gradient results of linear_cross_entropy_grad; second derivatives "
        "are not available. Put stop_gradient on them.");
    return;
  }
  for (int32_t i = 0; i < 2; ++i) p.accumulate(i, [&] { return p.mul(p.out(i + 1), p.dy()); });
  p.accumulate(3, [&] {
    Value one = p.scalar_like(1, p.in(3));
    return p.mul(p.dy(),
                 p.add_op(Op::linear_cross_entropy, {p.in(0), p.in(1), p.in(2), one}, p.attrs()));
  });
}

}  // namespace weir
