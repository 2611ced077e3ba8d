#include "interpret/tensor_view.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <utility>

#include "support/error.h"

namespace weir {
namespace {

template <typename T>
void put(char* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

template <typename T>
T get(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// `value` is one that the dtype holds exactly.
void store(DType dtype, double value, char* at) {
  switch (dtype) {
    case DType::f64:
      return put(at, value);
    case DType::f32:
      return put(at, static_cast<float>(value));
    case DType::bf16:  // the upper half of a float
      return put(at,
                 static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16));
    case DType::f16:
      return put(at, static_cast<_Float16>(value));
    case DType::i32:
      return put(at, static_cast<int32_t>(value));
    case DType::i8:
      return put(at, static_cast<int8_t>(value));
    case DType::u8:
    case DType::boolean:
      return put(at, static_cast<uint8_t>(value));
  }
}

double load(DType dtype, const char* at) {
  switch (dtype) {
    case DType::f64:
      return get<double>(at);
    case DType::f32:
      return get<float>(at);
    case DType::bf16:
      return std::bit_cast<float>(static_cast<uint32_t>(get<uint16_t>(at)) << 16);
    case DType::f16:
      return get<_Float16>(at);
    case DType::i32:
      return get<int32_t>(at);
    case DType::i8:
      return get<int8_t>(at);
    case DType::u8:
    case DType::boolean:
      return get<uint8_t>(at);
  }
  return 0;
}

}  // namespace

TensorView::TensorView(Type type, const void* data)
    : type_(std::move(type)), strides_(row_major_strides(type_.shape)), data_(data) {}

TensorView::TensorView(Type type, std::vector<int64_t> strides, const void* data)
    : type_(std::move(type)), strides_(std::move(strides)), data_(data) {
  if (static_cast<int64_t>(strides_.size()) != type_.rank())
    user_error("tensor", "{} strides are given for {}, but one an axis is needed.", strides_.size(),
               to_string(type_));
}

TensorView::TensorView(const HostTensor& tensor)
    : TensorView(Type{DType::f64, tensor.type.shape}, tensor.data.data()) {
  if (static_cast<int64_t>(tensor.data.size()) != type_.elements())
    user_error("tensor", "a tensor {} has {} elements in its data, but {} are needed.",
               to_string(tensor.type), tensor.data.size(), type_.elements());
}

bool TensorView::is_contiguous() const { return strides_ == row_major_strides(type_.shape); }

double TensorView::at(std::initializer_list<int64_t> index) const {
  const int64_t offset = element_offset(type_, strides_, index);
  return load(type_.dtype, static_cast<const char*>(data_) + offset * dtype_size(type_.dtype));
}

TensorView TensorView::transposed(const std::vector<int64_t>& permutation) const {
  std::vector<int64_t> sorted = permutation, axes(type_.shape.size());
  std::sort(sorted.begin(), sorted.end());
  std::iota(axes.begin(), axes.end(), 0);
  if (sorted != axes)
    user_error("tensor", "{} is no permutation of the axes of {}.", to_string(permutation),
               to_string(type_));
  TensorView result = *this;
  for (size_t axis = 0; axis < permutation.size(); ++axis) {
    const auto from = static_cast<size_t>(permutation[axis]);
    result.type_.shape[axis] = type_.shape[from];
    result.strides_[axis] = strides_[from];
  }
  return result;
}

TensorView TensorView::slice(int64_t axis, int64_t begin, int64_t end) const {
  if (axis < 0 || axis >= type_.rank())
    user_error("tensor", "{} has no axis {}.", to_string(type_), axis);
  const auto along = static_cast<size_t>(axis);
  if (begin < 0 || begin >= end || end > type_.shape[along])
    user_error("tensor", "indices {} to {} are not along axis {} of {}.", begin, end - 1, axis,
               to_string(type_));
  TensorView result = *this;
  result.type_.shape[along] = end - begin;
  result.data_ =
      static_cast<const char*>(data_) + begin * strides_[along] * int64_t{dtype_size(type_.dtype)};
  return result;
}

template <typename Function>
void TensorView::for_each(Function f) const {
  const int64_t size = dtype_size(type_.dtype), count = type_.elements();
  const char* first = static_cast<const char*>(data_);
  if (is_contiguous()) {
    for (int64_t i = 0; i < count; ++i) f(first + i * size);
    return;
  }
  std::vector<int64_t> index(type_.shape.size());
  for (int64_t i = 0; i < count; ++i) {
    int64_t offset = 0;
    for (size_t axis = 0; axis < index.size(); ++axis) offset += index[axis] * strides_[axis];
    f(first + offset * size);
    for (size_t axis = index.size(); axis-- > 0;) {
      index[axis] += 1;
      if (index[axis] < type_.shape[axis]) break;
      index[axis] = 0;
    }
  }
}

HostTensor TensorView::host() const {
  HostTensor tensor{type_, {}};
  tensor.data.reserve(static_cast<size_t>(type_.elements()));
  for_each([&](const char* at) { tensor.data.push_back(load(type_.dtype, at)); });
  return tensor;
}

void TensorView::copy_to(DType dtype, void* to) const {
  if (dtype == type_.dtype && is_contiguous()) {
    std::memcpy(to, data_, static_cast<size_t>(type_.bytes()));
    return;
  }
  char* next = static_cast<char*>(to);
  for_each([&](const char* at) {
    store(dtype, round_to(dtype, load(type_.dtype, at)), next);
    next += dtype_size(dtype);
  });
}

}  // namespace weir
