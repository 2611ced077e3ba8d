// GradientMath and Pullback: what every rule of autodiff is written with.
#include <algorithm>
#include <numeric>

#include "passes/autodiff_rules.h"
#include "support/error.h"

namespace weir {

Value GradientMath::add_op(Op op, std::vector<Value> inputs, Attrs attrs) {
  return editor_.add(op, std::move(inputs), std::move(attrs), where_);
}

std::vector<Value> GradientMath::add_node(Op op, std::vector<Value> inputs, Attrs attrs) {
  return editor_.add_node(op, std::move(inputs), std::move(attrs), where_);
}

Value GradientMath::scalar(double value, DType dtype) {
  return editor_.constant(value, {dtype, {}});
}

std::optional<double> GradientMath::constant_value(Value x) const {
  const Node& node = editor_.graph().node(x);
  if (node.op != Op::constant) return std::nullopt;
  return node.attrs.get_float("value");
}

// The operand of a broadcast, or a scalar for a constant, where `other` alone has the full shape.
Value GradientMath::without_broadcast(Value x, Value other) {
  const Node& node = editor_.graph().node(x);
  const Shape shape = type(x).shape;
  if (node.op == Op::constant && type(other).shape == shape && !shape.empty())
    return scalar(node.attrs.get_float("value"), type(x).dtype);
  if (node.op == Op::broadcast && type(other).shape == shape) return node.inputs[0];
  return x;
}

Value GradientMath::binary(Op op, Value x, Value y) {
  Value left = without_broadcast(x, y);
  return add_op(op, {left, left == x ? without_broadcast(y, x) : y});
}

Value GradientMath::mul(Value x, Value y) {
  for (auto [factor, other] : {std::pair{x, y}, std::pair{y, x}})
    if (constant_value(factor) == 1.0 &&
        broadcast_shapes(type(factor).shape, type(other).shape) == type(other).shape)
      return other;
  return binary(Op::mul, x, y);
}

Value GradientMath::neg(Value x) {
  if (auto value = constant_value(x)) return editor_.constant(-*value, type(x));
  return add_op(Op::neg, {x});
}

Value GradientMath::select(Value condition, Value x, Value y) {
  return add_op(Op::select, {condition, x, y});
}

Value GradientMath::sum(Value x, std::vector<int64_t> axes) {
  if (axes.empty()) return x;
  return add_op(Op::reduce_sum, {x}, {{"axes", std::move(axes)}});
}

Value GradientMath::mean_last(Value x) {
  return add_op(Op::reduce_mean, {x}, {{"axes", std::vector<int64_t>{type(x).rank() - 1}}});
}

Value GradientMath::reshape(Value x, const Shape& shape) {
  while (editor_.graph().node(x).op == Op::reshape) x = editor_.graph().node(x).inputs[0];
  if (type(x).shape == shape) return x;
  if (auto value = constant_value(x)) return editor_.constant(*value, {type(x).dtype, shape});
  return add_op(Op::reshape, {x}, {{"shape", shape}});
}

Value GradientMath::broadcast(Value x, const Shape& shape) {
  if (type(x).shape == shape) return x;
  if (auto value = constant_value(x)) return editor_.constant(*value, {type(x).dtype, shape});
  return add_op(Op::broadcast, {x}, {{"shape", shape}});
}

Value GradientMath::transpose(Value x, const std::vector<int64_t>& permutation) {
  return add_op(Op::transpose, {x}, {{"permutation", permutation}});
}

Value GradientMath::transpose_last(Value x) {
  std::vector<int64_t> permutation(type(x).rank());
  std::iota(permutation.begin(), permutation.end(), 0);
  std::swap(permutation[permutation.size() - 1], permutation[permutation.size() - 2]);
  return transpose(x, permutation);
}

Value GradientMath::matmul(Value a, Value b, bool transpose_a, bool transpose_b) {
  Attrs attrs;
  if (transpose_a) attrs.set("transpose_a", true);
  if (transpose_b) attrs.set("transpose_b", true);
  return add_op(Op::matmul, {a, b}, attrs);
}

Value GradientMath::fit(Value x, const Shape& shape) {
  Shape have = type(x).shape;
  WEIR_CHECK(broadcast_shapes(have, shape), "{} does not fit {}", to_string(have),
             to_string(shape));
  size_t extra = have.size() > shape.size() ? have.size() - shape.size() : 0;
  Shape aligned(have.size(), 1);
  std::copy_backward(shape.end() - static_cast<int64_t>(std::min(have.size(), shape.size())),
                     shape.end(), aligned.end());
  std::vector<int64_t> axes;
  for (size_t i = 0; i < have.size(); ++i)
    if (aligned[i] == 1 && have[i] != 1) axes.push_back(static_cast<int64_t>(i));
  x = sum(x, axes);
  if (extra > 0) {
    Shape kept(type(x).shape.begin() + static_cast<int64_t>(extra), type(x).shape.end());
    x = reshape(x, kept);
  }
  return broadcast(x, shape);
}

Value Pullback::dy() const {
  const std::optional<Value>& arrived = upstream_[0];
  WEIR_CHECK(arrived.has_value(), "{} has no gradient to pull back", op_name(node_.op));
  return *arrived;
}

void Pullback::accumulate(size_t operand, Value gradient) {
  hooks_.accumulate(operand, fit(gradient, shape(operand)));
}

}  // namespace weir
