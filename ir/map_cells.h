#pragma once
// The cells in which a map of attention weights is given: the first tokens one by one - a sink
// stays a column of its own - and the others in groups of equal width.
#include <algorithm>
#include <cstdint>

namespace weir {

/// The most cells of a side that a probe may ask for.
inline constexpr int64_t kMaxMapSide = 256;

struct MapCells {
  int64_t length = 0;  ///< tokens
  int64_t single = 0;  ///< first tokens that have a cell each
  int64_t width = 1;   ///< tokens of every later cell; the last one may have fewer

  int64_t count() const { return single + (length - single + width - 1) / width; }
  /// The first token of a cell; `length` behind the last one.
  int64_t start(int64_t cell) const {
    return cell < single ? cell : std::min(length, single + (cell - single) * width);
  }
};

/// At most `side` >= 1 cells: a token each where that suffices, else 16 single tokens (half of
/// `side` where that is less) before the groups.
inline MapCells map_cells(int64_t length, int64_t side) {
  if (length <= side) return {length, length, 1};
  const int64_t single = std::min<int64_t>(16, side / 2);
  return {length, single, (length - single + side - single - 1) / (side - single)};
}

}  // namespace weir
