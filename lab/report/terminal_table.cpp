#include "lab/report/terminal_table.h"

#include <fmt/format.h>

#include <algorithm>

namespace weir {

std::string terminal_table(const std::vector<std::vector<std::string>>& rows,
                           TableAlignment alignment) {
  std::vector<size_t> widths(rows.empty() ? 0 : rows[0].size());
  for (const auto& row : rows)
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const bool left = c < alignment.left || (alignment.last_left && c + 1 == row.size());
      if (c > 0) line += "  ";
      line += left ? fmt::format("{:<{}}", row[c], widths[c])
                   : fmt::format("{:>{}}", row[c], widths[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace weir
