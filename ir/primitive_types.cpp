#include "ir/primitive_types.h"

#include <algorithm>
#include <bit>

#include "support/text.h"

namespace weir {
namespace {

// A kernel holds an accumulator for each lane; the widest targets take 64.
constexpr int64_t kMaxLanes = 1024;

}  // namespace

Type PrimitiveTypes::elementwise() {
  size_t first = op_ == Op::select ? 1 : 0;
  Shape shape = in(0).shape;
  for (size_t i = 1; i < inputs_.size(); ++i) {
    if (i > first && in(i).dtype != in(first).dtype)
      fail("operands {} and {} have different dtypes. Convert one of them.", text(first), text(i));
    auto joined = broadcast_shapes(shape, in(i).shape);
    if (!joined)
      fail(
          "operands {} do not broadcast: aligned from the right, axes must be equal or 1. "
          "Reshape or broadcast one of them.",
          all_operands());
    shape = *joined;
  }
  return {in(first).dtype, shape};
}

std::string PrimitiveTypes::all_operands() const {
  std::vector<std::string> parts;
  for (const Type* type : inputs_) parts.push_back(to_string(*type));
  return join(parts, " and ");
}

Type PrimitiveTypes::elementwise_op() {
  const OpInfo& row = info(op_);
  check_operands(row.operands);
  Type result = elementwise();
  if (row.has(op_trait::Comparison)) result.dtype = DType::boolean;
  if (op_ == Op::convert) result.dtype = attrs_.get_dtype("to");
  return result;
}

void PrimitiveTypes::check_operands(OperandKind kind) {
  switch (kind) {
    case OperandKind::Any:
      return;
    case OperandKind::Number:
      for (size_t i = 0; i < inputs_.size(); ++i)
        if (in(i).dtype == DType::boolean)
          fail("operand {} is {}, but a number is needed. Use select or convert.", i, text(i));
      return;
    case OperandKind::Real:
      need_float(0);
      return;
    case OperandKind::Bool:
      for (size_t i = 0; i < inputs_.size(); ++i)
        if (in(i).dtype != DType::boolean)
          fail("operand {} is {}, but bool is needed.", i, text(i));
      return;
    case OperandKind::Integer:
      for (size_t i = 0; i < inputs_.size(); ++i)
        if (in(i).dtype != DType::i32)
          fail("operand {} is {}, but i32 is needed. Convert it first.", i, text(i));
      return;
    case OperandKind::Choice:
      if (in(0).dtype != DType::boolean)
        fail("the condition is {}, but bool is needed. Compare something first.", text(0));
      return;
  }
}

Type PrimitiveTypes::unary_float() {
  need_float(0);
  return in(0);
}

Type PrimitiveTypes::reduction() {
  Type result = in(0);
  if (in(0).dtype == DType::boolean)
    fail("operand 0 is {}, but a number is needed. Convert it first.", text(0));
  if (op_ == Op::reduce_mean) need_float(0);
  std::vector<int64_t> axes = attrs_.get_ints("axes");
  if (axes.empty()) fail("no axes given. Name the axes of {} to reduce.", text(0));
  for (size_t i = 0; i < axes.size(); ++i) {
    if (axes[i] < 0 || axes[i] >= in(0).rank() || (i && axes[i] <= axes[i - 1]))
      fail("axes {} are not ascending axes of {}.", to_string(axes), text(0));
    result.shape[axes[i]] = 1;
  }
  if (!attrs_.has("lanes")) return result;
  if (axes != std::vector<int64_t>{in(0).rank() - 1})
    fail("lanes order a reduction over the last axis alone, but axes are {} of {}.",
         to_string(axes), text(0));
  const int64_t lanes = attrs_.get_int("lanes");
  if (lanes < 1 || lanes > kMaxLanes || !std::has_single_bit(static_cast<uint64_t>(lanes)))
    fail("lanes are {}, but a power of two from 1 to {} is needed.", lanes, kMaxLanes);
  return result;
}

Type PrimitiveTypes::reshape() {
  const Shape& shape = attrs_.get_ints("shape");
  if (std::any_of(shape.begin(), shape.end(), [](int64_t n) { return n < 1; }) ||
      element_count(shape) != in(0).elements())
    fail("{} has {} elements, but {} has {}.", text(0), in(0).elements(), to_string(shape),
         element_count(shape));
  return {in(0).dtype, shape};
}

Type PrimitiveTypes::broadcast() {
  const Shape& shape = attrs_.get_ints("shape");
  auto joined = broadcast_shapes(in(0).shape, shape);
  if (!joined || *joined != shape)
    fail("{} does not broadcast to {}: aligned from the right, its axes must be equal or 1.",
         text(0), to_string(shape));
  return {in(0).dtype, shape};
}

Type PrimitiveTypes::transpose() {
  const auto& permutation = attrs_.get_ints("permutation");
  std::vector<int64_t> sorted = permutation;
  std::sort(sorted.begin(), sorted.end());
  bool valid = static_cast<int64_t>(sorted.size()) == in(0).rank();
  for (size_t i = 0; valid && i < sorted.size(); ++i) valid = sorted[i] == static_cast<int64_t>(i);
  if (!valid)
    fail("{} is no permutation of the {} axes of {}.", to_string(permutation), in(0).rank(),
         text(0));
  Type result = in(0);
  for (size_t i = 0; i < sorted.size(); ++i) result.shape[i] = in(0).shape[permutation[i]];
  return result;
}

Type PrimitiveTypes::slice() {
  const auto& starts = attrs_.get_ints("starts");
  const auto& limits = attrs_.get_ints("limits");
  Type result = in(0);
  bool valid =
      static_cast<int64_t>(starts.size()) == in(0).rank() && starts.size() == limits.size();
  for (size_t i = 0; valid && i < starts.size(); ++i) {
    valid = 0 <= starts[i] && starts[i] < limits[i] && limits[i] <= in(0).shape[i];
    result.shape[i] = limits[i] - starts[i];
  }
  if (!valid)
    fail("starts {} and limits {} do not lie within {}. Give one pair an axis, start < limit.",
         to_string(starts), to_string(limits), text(0));
  return result;
}

Type PrimitiveTypes::pad() {
  const auto& low = attrs_.get_ints("low");
  const auto& high = attrs_.get_ints("high");
  auto outside = [](int64_t n) { return n < 0 || n > kMaxElements; };
  if (static_cast<int64_t>(low.size()) != in(0).rank() || low.size() != high.size() ||
      std::any_of(low.begin(), low.end(), outside) ||
      std::any_of(high.begin(), high.end(), outside))
    fail("low {} and high {} need one number >= 0 for every axis of {}.", to_string(low),
         to_string(high), text(0));
  Type result = in(0);
  for (size_t i = 0; i < low.size(); ++i) result.shape[i] += low[i] + high[i];
  return result;
}

Type PrimitiveTypes::concat() {
  int64_t axis = attrs_.get_int("axis");
  Type result = in(0);
  if (axis < 0 || axis >= result.rank()) fail("axis {} is none of {}.", axis, text(0));
  for (size_t i = 1; i < inputs_.size(); ++i) {
    Type other = in(i);
    if (other.rank() == result.rank()) other.shape[axis] = in(0).shape[axis];
    if (other != in(0)) fail("{} and {} differ in more than axis {}.", text(0), text(i), axis);
    result.shape[axis] += in(i).shape[axis];
  }
  return result;
}

Type PrimitiveTypes::matmul() {
  bool transpose_a = attrs_.get_bool("transpose_a"), transpose_b = attrs_.get_bool("transpose_b");
  const bool is_bytes = in(0).dtype == DType::u8 && in(1).dtype == DType::i8;
  if (!is_bytes) need_float(0);
  if (!is_bytes && in(0).dtype != in(1).dtype)
    fail("lhs {} and rhs {} have different dtypes. Convert one of them.", text(0), text(1));
  if (in(0).rank() < 2 || in(1).rank() < 2)
    fail("lhs {} and rhs {} need at least two axes each. Reshape a vector to [1,n] or [n,1].",
         text(0), text(1));
  Shape a = in(0).shape, b = in(1).shape;
  if (transpose_a) std::swap(a[a.size() - 1], a[a.size() - 2]);
  if (transpose_b) std::swap(b[b.size() - 1], b[b.size() - 2]);
  int64_t inner_a = a.back(), inner_b = b[b.size() - 2];
  if (inner_a != inner_b)
    fail("lhs {}{} and rhs {}{}: inner sizes {} and {} differ.{}", text(0),
         transpose_a ? " transposed" : "", text(1), transpose_b ? " transposed" : "", inner_a,
         inner_b,
         b.back() == inner_a
             ? fmt::format(" {} the rhs?", transpose_b ? "Do not transpose" : "Transpose")
             : "");
  if (b.size() > 2 && !std::equal(a.begin(), a.end() - 2, b.begin(), b.end() - 2))
    fail("lhs {} and rhs {}: batch axes differ. Make them equal, or the rhs two-dimensional.",
         text(0), text(1));
  Shape shape(a.begin(), a.end() - 1);
  shape.push_back(b.back());
  Type result{is_bytes ? DType::i32 : in(0).dtype, shape};
  if (inputs_.size() == 3) need_type(2, result, "accumulator");
  return result;
}

Type PrimitiveTypes::embedding() {
  need_float(0);
  need_rank(0, 2, "a table [V,D]");
  need_integer(1);
  Shape shape = in(1).shape;
  shape.push_back(in(0).shape[1]);
  return {in(0).dtype, shape};
}

Type PrimitiveTypes::embedding_grad() {
  need_integer(0);
  need_float(1);
  Shape wanted = in(0).shape;
  if (in(1).rank() == 0) fail("dy is {}, but ids.shape + [D] is needed.", text(1));
  wanted.push_back(in(1).shape.back());
  need_type(1, {in(1).dtype, wanted}, "gradient");
  if (attrs_.get_int("vocabulary") < 1)
    fail("vocabulary {} is not positive.", attrs_.get_int("vocabulary"));
  return {in(1).dtype, {attrs_.get_int("vocabulary"), in(1).shape.back()}};
}

}  // namespace weir
