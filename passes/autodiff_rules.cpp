// The one table of gradients: how the gradient passes each op, and the rules of a line.
#include "passes/autodiff_rules.h"

#include <numbers>

#include "support/error.h"

namespace weir {
namespace {

using Rule = void (*)(Pullback&);
GradientRule rule(Rule pull_back) { return {GradientKind::rule, pull_back}; }

// The rule of an op of one operand whose gradient is `formula(p, x, y, dy)`.
template <auto formula>
GradientRule unary() {
  return rule([](Pullback& p) { p.accumulate(0, formula(p, p.in(0), p.out(), p.dy())); });
}
// The rule of an op of two operands, a formula of (p, x, y, dy) for each.
template <auto first, auto second>
GradientRule binary() {
  return rule([](Pullback& p) {
    p.accumulate(0, [&] { return first(p, p.in(0), p.in(1), p.dy()); });
    p.accumulate(1, [&] { return second(p, p.in(0), p.in(1), p.dy()); });
  });
}

// Arguments of a formula.
#define WEIR_FORMULA(...)                                                                  \
  [](Pullback& p, [[maybe_unused]] Value x, [[maybe_unused]] Value y, Value dy) -> Value { \
    __VA_ARGS__                                                                            \
  }

Value one_minus(Pullback& p, Value x) { return p.sub(p.scalar_like(1, x), x); }

}  // namespace

GradientRule gradient_rule(Op op) {
  constexpr GradientRule kStops{GradientKind::stops};
  constexpr GradientRule kDecompose{GradientKind::decompose};
  constexpr GradientRule kMissing{GradientKind::missing};
  switch (op) {
    case Op::input:
    case Op::constant:
    case Op::iota:
    case Op::stop_gradient:
    case Op::round:
    case Op::random_bits:
    case Op::logical_not:
    case Op::logical_and:
    case Op::logical_or:
    case Op::lt:
    case Op::le:
    case Op::gt:
    case Op::ge:
    case Op::eq:
    case Op::ne:
    case Op::probe:
      return kStops;

    // y = f(x).
    case Op::identity:
      return unary<WEIR_FORMULA(static_cast<void>(p); return dy;)>();
    case Op::convert:
      return unary<WEIR_FORMULA(return p.add_op(Op::convert, {dy}, {{"to", p.type(x).dtype}});)>();
    case Op::neg:
      return unary<WEIR_FORMULA(return p.neg(dy);)>();
    case Op::abs:
      return rule(pull_back_abs);
    case Op::exp:
      return unary<WEIR_FORMULA(return p.mul(dy, y);)>();
    case Op::log:
      return unary<WEIR_FORMULA(return p.div(dy, x);)>();
    case Op::sqrt:
      return unary<WEIR_FORMULA(return p.div(p.mul(dy, 0.5), y);)>();
    case Op::rsqrt:  // -dy y^3 / 2; y^3 alone leaves the range of f32 where y is 10^-13 or 10^13
      return unary<WEIR_FORMULA(return p.mul(p.mul(p.mul(p.mul(dy, y), -0.5), y), y);)>();
    case Op::tanh:
      return unary<WEIR_FORMULA(return p.mul(dy, one_minus(p, p.mul(y, y)));)>();
    case Op::sigmoid:
      return unary<WEIR_FORMULA(return p.mul(dy, p.mul(y, one_minus(p, y)));)>();
    case Op::sin:
      return unary<WEIR_FORMULA(return p.mul(dy, p.add_op(Op::cos, {x}));)>();
    case Op::cos:
      return unary<WEIR_FORMULA(return p.neg(p.mul(dy, p.add_op(Op::sin, {x})));)>();
    case Op::erf:  // 2/sqrt(pi) exp(-x^2)
      return unary<WEIR_FORMULA(Value bell = p.add_op(Op::exp, {p.neg(p.mul(x, x))});
                                return p.mul(dy, p.mul(bell, 2 * std::numbers::inv_sqrtpi));)>();

    // f(x, y).
    case Op::add:
      return binary<WEIR_FORMULA(static_cast<void>(p); return dy;),
                    WEIR_FORMULA(static_cast<void>(p); return dy;)>();
    case Op::sub:
      return binary<WEIR_FORMULA(static_cast<void>(p); return dy;),
                    WEIR_FORMULA(return p.neg(dy);)>();
    case Op::mul:
      return binary<WEIR_FORMULA(return p.mul(dy, y);), WEIR_FORMULA(return p.mul(dy, x);)>();
    case Op::div:  // dy/y and -(dy/y) x/y
      return binary<WEIR_FORMULA(return p.div(dy, y);),
                    WEIR_FORMULA(return p.neg(p.mul(p.div(dy, y), p.out()));)>();
    case Op::pow:
      return rule(pull_back_pow);
    case Op::maximum:
    case Op::minimum:
      return rule(pull_back_extremum);
    case Op::select:
      return rule([](Pullback& p) {
        Value zero = p.scalar_like(0, p.dy());
        p.accumulate(1, [&] { return p.select(p.in(0), p.dy(), zero); });
        p.accumulate(2, [&] { return p.select(p.in(0), zero, p.dy()); });
      });
    case Op::straight_through:
      return rule([](Pullback& p) { p.accumulate(1, p.dy()); });

    case Op::reduce_sum:  // accumulate repeats it along the reduced axes
    case Op::broadcast:   // accumulate sums it over the repeated axes
      return rule([](Pullback& p) { p.accumulate(0, p.dy()); });
    case Op::reduce_max:
    case Op::reduce_min:
      return rule(pull_back_reduce_extremum);
    case Op::reshape:
      return rule([](Pullback& p) { p.accumulate(0, p.reshape(p.dy(), p.shape(0))); });
    case Op::transpose:
      return rule(pull_back_transpose);
    case Op::slice:
      return rule(pull_back_slice);
    case Op::pad:
      return rule(pull_back_pad);
    case Op::concat:
      return rule(pull_back_concat);

    case Op::matmul:
      return rule(pull_back_matmul);
    case Op::embedding:
      return rule([](Pullback& p) {
        p.accumulate(
            0, p.add_op(Op::embedding_grad, {p.in(1), p.dy()}, {{"vocabulary", p.shape(0)[0]}}));
      });
    case Op::softmax:
      return rule(pull_back_softmax);
    case Op::rms_norm:
      return rule(pull_back_rms_norm);
    case Op::layer_norm:
      return rule(pull_back_layer_norm);
    case Op::rope:
      return rule(pull_back_rope);
    case Op::attention:
      return rule(pull_back_attention);
    case Op::attention_head_gate:
      return rule(pull_back_attention_head_gate);
    case Op::cross_entropy:
      return rule(pull_back_cross_entropy);
    case Op::linear_cross_entropy_grad:
      return rule(pull_back_linear_cross_entropy_grad);

    case Op::reduce_mean:
    case Op::relu:
    case Op::silu:
    case Op::gelu:
    case Op::swiglu:
    case Op::v_scale:
      return kDecompose;
    case Op::linear_cross_entropy:  // becomes linear_cross_entropy_grad before differentiation
    case Op::embedding_grad:
    case Op::attention_lse:
    case Op::attention_grad:
    case Op::attention_score_grad:
    case Op::attention_scores:
    case Op::attention_stats:
    case Op::attention_map:
    case Op::attention_identities:
    case Op::attention_pattern:
    case Op::adamw:
    case Op::sgd:
    case Op::muon:
    case Op::kernel:
      return kMissing;
  }
  internal_error_at("unknown op");
}

#undef WEIR_FORMULA

bool carries_gradient(const Graph& graph, const Node& node, size_t operand) {
  if (gradient_rule(node.op).kind == GradientKind::stops) return false;
  if (!is_float(graph.type(node.inputs[operand]).dtype)) return false;
  return node.op != Op::straight_through || operand == 1;
}

}  // namespace weir
