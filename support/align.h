#pragma once
// Where buffers begin.
#include <cstdint>

namespace weir {

/// Every buffer begins at a multiple of this many bytes: a cache line, and the widest vector.
inline constexpr int64_t kAlignment = 64;

/// The smallest multiple of `step` that is not below `value`; both of one type.
template <typename T>
constexpr T round_up(T value, T step) {
  return (value + step - 1) / step * step;
}

/// The bytes that a buffer takes so that another can begin right after it.
constexpr int64_t aligned(int64_t bytes) { return round_up(bytes, kAlignment); }

}  // namespace weir
