#include "interpret/host_tensor.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/error.h"

namespace weir {
namespace {

// Nearest value with `bits` significant bits, ties to even; `lowest` is the exponent (of frexp) of
// the smallest normal number, below which the spacing stays; from 2^`limit` on it is infinity.
double round_to_bits(double value, int bits, int lowest, int limit) {
  if (!std::isfinite(value) || value == 0) return value;
  int exponent = 0;
  std::frexp(value, &exponent);
  int spacing = std::max(exponent, lowest) - bits;
  double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -spacing)), spacing);
  if (std::abs(rounded) >= std::ldexp(1.0, limit))
    return std::copysign(std::numeric_limits<double>::infinity(), value);
  return rounded;
}

double saturate(DType dtype, double value) {
  if (std::isnan(value)) return 0;
  auto [low, high] = integer_range(dtype);
  return std::clamp(std::trunc(value), static_cast<double>(low), static_cast<double>(high)) + 0.0;
}

}  // namespace

int64_t element_offset(const Type& type, const std::vector<int64_t>& strides,
                       std::initializer_list<int64_t> index) {
  if (static_cast<int64_t>(index.size()) != type.rank())
    user_error("tensor", "{} indices are given for an element of {}, but {} are needed.",
               index.size(), to_string(type), type.rank());
  int64_t offset = 0;
  size_t axis = 0;
  for (int64_t i : index) {
    if (i < 0 || i >= type.shape[axis])
      user_error("tensor", "index {} lies outside of axis {} of {}.", i, axis, to_string(type));
    offset += i * strides[axis++];
  }
  return offset;
}

std::vector<int64_t> row_major_strides(const Shape& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0; stride *= shape[axis]) strides[axis] = stride;
  return strides;
}

double HostTensor::at(std::initializer_list<int64_t> index) const {
  const int64_t offset = element_offset(type, row_major_strides(type.shape), index);
  if (static_cast<int64_t>(data.size()) != type.elements())
    user_error("tensor", "a tensor {} has {} elements in its data, but {} are needed.",
               to_string(type), data.size(), type.elements());
  return data[static_cast<size_t>(offset)];
}

HostTensor zeros(const Type& type) { return filled(type, 0); }

HostTensor filled(const Type& type, double value) {
  if (!is_valid_shape(type.shape))
    user_error("tensor",
               "there is no tensor {}. Every extent must be positive, and at most {} "
               "elements fit.",
               to_string(type), kMaxElements);
  // f32 is held in full precision, as everywhere in the interpreter.
  double stored = type.dtype == DType::f32 ? value : round_to(type.dtype, value);
  return {type, std::vector<double>(type.elements(), stored)};
}

HostTensor scalar(double value, DType dtype) { return filled({dtype, {}}, value); }

double round_to(DType dtype, double value) {
  switch (dtype) {
    case DType::f64:
      return value;
    case DType::f32:
      return static_cast<float>(value);
    case DType::bf16:
      return round_to_bits(value, 8, -125, 128);
    case DType::f16:
      return round_to_bits(value, 11, -13, 16);
    case DType::i32:
    case DType::i8:
    case DType::u8:
      return saturate(dtype, value);
    case DType::boolean:
      return value != 0;
  }
  internal_error_at("unknown dtype");
}

double wrap_integer(DType dtype, int64_t value) {
  switch (dtype) {
    case DType::f64:
    case DType::f32:
    case DType::bf16:
    case DType::f16:
      break;
    case DType::i32:
      return static_cast<int32_t>(value);
    case DType::i8:
      return static_cast<int8_t>(value);
    case DType::u8:
      return static_cast<uint8_t>(value);
    case DType::boolean:
      return value != 0;
  }
  internal_error_at("not an integer dtype");
}

std::pair<int64_t, int64_t> integer_range(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::f32:
    case DType::bf16:
    case DType::f16:
      break;
    case DType::i32:
      return {std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()};
    case DType::i8:
      return {-128, 127};
    case DType::u8:
      return {0, 255};
    case DType::boolean:
      return {0, 1};
  }
  internal_error_at("not an integer dtype");
}

}  // namespace weir
