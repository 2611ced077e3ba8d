#pragma once
// A tensor in the host's memory as the interpreter, the tests and reference data see it: every
// element is a double, whatever the dtype, in row-major order.
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "ir/type.h"

namespace weir {

struct HostTensor {
  Type type;
  std::vector<double> data;

  const Shape& shape() const { return type.shape; }
  /// The element at an index, one number an axis; user error for one that is not there.
  double at(std::initializer_list<int64_t> index) const;
  bool operator==(const HostTensor&) const = default;
};

/// The sum of index times stride, in elements; user error for an index that `type` does not have.
int64_t element_offset(const Type& type, const std::vector<int64_t>& strides,
                       std::initializer_list<int64_t> index);
/// The strides of a row-major array without gaps.
std::vector<int64_t> row_major_strides(const Shape& shape);

/// Tensors by the name of an input, output, probe or value.
using Tensors = std::map<std::string, HostTensor>;

/// A tensor of zeros, or of one value, which is stored as the dtype holds it. User error for a
/// shape that no tensor can have.
HostTensor zeros(const Type& type);
HostTensor filled(const Type& type, double value);
/// A rank-0 tensor.
HostTensor scalar(double value, DType dtype = DType::f32);

/// What storage of a real number as `dtype` leaves of it: bf16 and f16 round to nearest even
/// (overflow gives infinity), f32 rounds to a float, integers truncate towards zero and saturate
/// (NaN gives 0), bool is 1 for everything but 0.
double round_to(DType dtype, double value);
/// The low bits of an integer, as two's complement arithmetic in `dtype` leaves them.
double wrap_integer(DType dtype, int64_t value);
/// Smallest and largest value of an integer dtype (bool: 0 and 1).
std::pair<int64_t, int64_t> integer_range(DType dtype);

}  // namespace weir
