// Reductions and movement: walks over strided views.
#include <cmath>
#include <limits>

#include "interpret/ops.h"
#include "support/error.h"

namespace weir::reference {

Shape strides_of(const Shape& shape) {
  Shape strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

Shape broadcast_strides(const Shape& shape, const Shape& result) {
  Shape own = strides_of(shape), strides(result.size(), 0);
  size_t missing = result.size() - shape.size();
  for (size_t i = 0; i < shape.size(); ++i)
    if (shape[i] != 1) strides[missing + i] = own[i];
  return strides;
}

namespace {

// Combines the elements that share a result element, in ascending order.
template <typename F>
HostTensor reduce(const Call& call, double start, const F& combine) {
  const HostTensor& x = call.in(0);
  HostTensor result{call.type(), std::vector<double>(call.type().elements(), start)};
  std::array<Shape, 1> strides{broadcast_strides(result.shape(), x.shape())};
  for_each_row(x.shape(), strides,
               [&](int64_t position, const auto& offsets, int64_t count, const auto& steps) {
                 for (int64_t j = 0; j < count; ++j) {
                   double& sum = result.data[offsets[0] + j * steps[0]];
                   sum = combine(sum, x.data[position + j]);
                 }
               });
  return result;
}

// The result whose elements lie at `strides` from `base` in the operand.
Results gather(const Call& call, const Shape& strides, int64_t base = 0) {
  HostTensor result = zeros(call.type());
  const double* source = call.in(0).data.data() + base;
  for_each_row(result.shape(), std::array<Shape, 1>{strides},
               [&](int64_t position, const auto& offsets, int64_t count, const auto& steps) {
                 for (int64_t j = 0; j < count; ++j)
                   result.data[position + j] = source[offsets[0] + j * steps[0]];
               });
  return results(std::move(result));
}

// Writes a whole block into a larger tensor, its first element at `starts`.
void place(const HostTensor& block, const Shape& starts, HostTensor& whole) {
  Shape strides = strides_of(whole.shape());
  int64_t base = 0;
  for (size_t i = 0; i < starts.size(); ++i) base += starts[i] * strides[i];
  for_each_row(block.shape(), std::array<Shape, 1>{strides},
               [&](int64_t position, const auto& offsets, int64_t count, const auto& steps) {
                 for (int64_t j = 0; j < count; ++j)
                   whole.data[base + offsets[0] + j * steps[0]] = block.data[position + j];
               });
}

}  // namespace

Results reduce_sum(const Call& call) {
  HostTensor sum = reduce(call, 0, [](double x, double y) { return x + y; });
  // 2^53 / 2^31 elements would be needed to lose an integer before it wraps.
  if (!is_float(sum.type.dtype))
    for (double& value : sum.data)
      value = wrap_integer(sum.type.dtype, static_cast<int64_t>(value));
  return results(std::move(sum));
}

Results reduce_mean(const Call& call) {
  HostTensor mean = reduce(call, 0, [](double x, double y) { return x + y; });
  const int64_t count = call.in(0).type.elements() / mean.type.elements();
  for (double& value : mean.data) value /= static_cast<double>(count);
  return results(std::move(mean));
}

Results reduce_max(const Call& call) {
  return results(reduce(call, -std::numeric_limits<double>::infinity(), [](double x, double y) {
    return std::isnan(x) || x >= y ? x : y;  // a NaN y is taken, since nothing is >= it
  }));
}

Results reduce_min(const Call& call) {
  return results(reduce(call, std::numeric_limits<double>::infinity(),
                        [](double x, double y) { return std::isnan(x) || x <= y ? x : y; }));
}

Results broadcast(const Call& call) {
  return gather(call, broadcast_strides(call.in(0).shape(), call.type().shape));
}

Results reshape(const Call& call) { return results(HostTensor{call.type(), call.in(0).data}); }

Results transpose(const Call& call) {
  Shape own = strides_of(call.in(0).shape()), strides;
  for (int64_t axis : call.attrs().get_ints("permutation")) strides.push_back(own[axis]);
  return gather(call, strides);
}

Results slice(const Call& call) {
  Shape strides = strides_of(call.in(0).shape());
  const auto& starts = call.attrs().get_ints("starts");
  int64_t base = 0;
  for (size_t i = 0; i < starts.size(); ++i) base += starts[i] * strides[i];
  return gather(call, strides, base);
}

Results pad(const Call& call) {
  HostTensor result = zeros(call.type());
  place(call.in(0), call.attrs().get_ints("low"), result);
  return results(std::move(result));
}

Results concat(const Call& call) {
  HostTensor result = zeros(call.type());
  int64_t axis = call.attrs().get_int("axis");
  Shape starts(call.type().shape.size(), 0);
  for (const Shared& part : call.operands) {
    place(*part, starts, result);
    starts[axis] += part->shape()[axis];
  }
  return results(std::move(result));
}

}  // namespace weir::reference
