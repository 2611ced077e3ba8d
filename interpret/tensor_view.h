#pragma once
// Values in the host's memory as they are stored: by compiled programs in the types of the graph,
// by the interpreter in f64.
#include <initializer_list>
#include <span>
#include <vector>

#include "interpret/host_tensor.h"
#include "support/error.h"

namespace weir {

/// Elements that somebody else owns, read in place. Element (i, j, ...) lies strides[0] * i +
/// strides[1] * j + ... elements behind the first.
class TensorView {
 public:
  /// Row-major, without gaps.
  TensorView(Type type, const void* data);
  TensorView(Type type, std::vector<int64_t> strides, const void* data);
  /// The doubles of a tensor, whatever its dtype: a view of type f64.
  TensorView(const HostTensor& tensor);  // NOLINT(google-explicit-constructor): a tensor is one

  const Type& type() const { return type_; }  ///< as stored
  const Shape& shape() const { return type_.shape; }
  const std::vector<int64_t>& strides() const { return strides_; }
  const void* data() const { return data_; }
  /// Whether it is row-major, without gaps.
  bool is_contiguous() const;

  /// User error for an index that is not there.
  double at(std::initializer_list<int64_t> index) const;
  /// Result axis i is axis permutation[i]; nothing is copied. User error for no permutation.
  TensorView transposed(const std::vector<int64_t>& permutation) const;
  /// begin <= index < end along an axis; nothing is copied. User error for what is not there.
  TensorView slice(int64_t axis, int64_t begin, int64_t end) const;

  /// A copy in doubles, of the stored type.
  HostTensor host() const;
  /// Writes the elements to row-major memory, rounded to `dtype`.
  void copy_to(DType dtype, void* to) const;
  /// Calls f(std::span<const float>) or f(std::span<const double>). Internal error for another
  /// type, or with gaps.
  template <typename Function>
  void floats(Function f) const {
    const auto count = static_cast<size_t>(type_.elements());
    WEIR_CHECK(is_contiguous(), "elements of a view with gaps");
    if (type_.dtype == DType::f32) return f(std::span(static_cast<const float*>(data_), count));
    WEIR_CHECK(type_.dtype == DType::f64, "{} as floats", to_string(type_));
    f(std::span(static_cast<const double*>(data_), count));
  }

 private:
  /// Calls f(address) for every element in row-major order.
  template <typename Function>
  void for_each(Function f) const;

  Type type_;
  std::vector<int64_t> strides_;
  const void* data_;
};

}  // namespace weir
