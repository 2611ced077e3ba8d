// Rules of more than a line of the elementwise, reduction and movement primitives.
#include "passes/autodiff_rules.h"

namespace weir {

// dy by the sign of x, 0 at 0; NaN lets the gradient through.
void pull_back_abs(Pullback& p) {
  Value x = p.in(0), zero = p.scalar_like(0, x), dy = p.dy();
  Value negative = p.add_op(Op::lt, {x, zero}), at_zero = p.add_op(Op::eq, {x, zero});
  p.accumulate(0, p.zero_where(at_zero, p.select(negative, p.neg(dy), dy)));
}

// The operand that loses gets 0, equal ones half each; NaN operands let the gradient through.
void pull_back_extremum(Pullback& p) {
  Op loses = p.node().op == Op::maximum ? Op::lt : Op::gt;
  Value dy = p.dy(), x = p.in(0), y = p.in(1);
  Value shared = p.select(p.add_op(Op::eq, {x, y}), p.mul(dy, 0.5), dy);
  p.accumulate(0, [&] { return p.zero_where(p.add_op(loses, {x, y}), shared); });
  p.accumulate(1, [&] { return p.zero_where(p.add_op(loses, {y, x}), shared); });
}

// d x^y = y x^(y-1) dx + log(x) x^y dy. Where y = 0 the first is 0, where x = 0 the second.
void pull_back_pow(Pullback& p) {
  Value x = p.in(0), y = p.in(1), dy = p.dy();
  auto exponent = p.constant_value(y);
  p.accumulate(0, [&] {
    if (exponent == 2.0) return p.mul(dy, p.mul(x, 2));
    Value one_less = exponent ? p.scalar_like(*exponent - 1, y) : p.sub(y, p.scalar_like(1, y));
    Value slope = p.mul(p.add_op(Op::pow, {x, one_less}), y);
    Value at_zero = p.add_op(Op::eq, {y, p.scalar_like(0, y)});
    return p.mul(dy, exponent ? slope : p.zero_where(at_zero, slope));
  });
  p.accumulate(1, [&] {
    Value at_zero = p.add_op(Op::eq, {x, p.scalar_like(0, x)});
    return p.mul(dy, p.zero_where(at_zero, p.mul(p.add_op(Op::log, {x}), p.out())));
  });
}

// Elements that attain the extremum share the gradient equally. If the result is NaN, none equals
// it, and 0/0 hands NaN on.
void pull_back_reduce_extremum(Pullback& p) {
  Value x = p.in(0), attains = p.add_op(Op::eq, {x, p.out()});
  Value one = p.scalar_like(1, x);
  Value indicator = p.select(attains, one, p.scalar_like(0, x));
  Value count = p.sum(indicator, p.attrs().get_ints("axes"));
  p.accumulate(0, p.mul(indicator, p.div(p.dy(), count)));
}

void pull_back_transpose(Pullback& p) {
  const std::vector<int64_t>& permutation = p.attrs().get_ints("permutation");
  std::vector<int64_t> inverse(permutation.size());
  for (size_t i = 0; i < permutation.size(); ++i) inverse[permutation[i]] = static_cast<int64_t>(i);
  p.accumulate(0, p.transpose(p.dy(), inverse));
}

void pull_back_slice(Pullback& p) {
  std::vector<int64_t> low = p.attrs().get_ints("starts"), high = p.attrs().get_ints("limits");
  for (size_t i = 0; i < high.size(); ++i) high[i] = p.shape(0)[i] - high[i];
  p.accumulate(0, p.add_op(Op::pad, {p.dy()}, {{"low", low}, {"high", high}}));
}

void pull_back_pad(Pullback& p) {
  std::vector<int64_t> starts = p.attrs().get_ints("low"), limits = starts;
  for (size_t i = 0; i < limits.size(); ++i) limits[i] += p.shape(0)[i];
  p.accumulate(0, p.add_op(Op::slice, {p.dy()}, {{"starts", starts}, {"limits", limits}}));
}

void pull_back_concat(Pullback& p) {
  int64_t axis = p.attrs().get_int("axis");
  std::vector<int64_t> starts(p.shape(0).size(), 0), limits = p.type(p.out()).shape;
  limits[axis] = 0;
  for (size_t i = 0; i < p.operands(); ++i) {
    starts[axis] = limits[axis];
    limits[axis] += p.shape(i)[axis];
    p.accumulate(
        i, [&] { return p.add_op(Op::slice, {p.dy()}, {{"starts", starts}, {"limits", limits}}); });
  }
}

}  // namespace weir
