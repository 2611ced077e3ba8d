#pragma once
// Whole numbers of pieces, and where buffers begin.
#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace weir {

/// Every buffer begins at a multiple of this many bytes: a cache line, and the widest vector.
inline constexpr int64_t kAlignment = 64;

/// Pieces of `size` that hold `total`, the last perhaps in part.
template <typename T>
constexpr T ceil_div(T total, std::type_identity_t<T> size) {
  return (total + size - 1) / size;
}

/// The smallest multiple of `step` that is not below `value`.
template <typename T>
constexpr T round_up(T value, std::type_identity_t<T> step) {
  return ceil_div(value, step) * step;
}

/// The size of a piece where `total` is cut into as few equal pieces of at most `most` (but of one
/// step) as possible, each a multiple of `step`.
constexpr int64_t even_block(int64_t total, int64_t most, int64_t step) {
  const int64_t pieces = ceil_div(total, std::max(most, step));
  return round_up(ceil_div(total, pieces), step);
}

/// The bytes that a buffer takes so that another can begin right after it.
constexpr int64_t aligned(int64_t bytes) { return round_up(bytes, kAlignment); }

}  // namespace weir
