#pragma once
// Tables of the commands, as text.
#include <cstddef>
#include <string>
#include <vector>

namespace weir {

struct TableAlignment {
  size_t left = 0;         ///< columns that are aligned to the left, from the first; others: right
  bool last_left = false;  ///< the last one, too, which is then a text
};

/// A line a row, the first of which has the headings; two blanks between columns, none at the end
/// of a line.
std::string terminal_table(const std::vector<std::vector<std::string>>& rows,
                           TableAlignment alignment = {});

}  // namespace weir
