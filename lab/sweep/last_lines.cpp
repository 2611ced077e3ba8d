#include "lab/sweep/last_lines.h"

#include <algorithm>

#include "io/file.h"

namespace weir {

std::optional<nlohmann::json> last_line_of(const std::filesystem::path& file) {
  if (!file_exists(file.string())) return std::nullopt;
  // Read, not mapped: the run may be going on, and its file be replaced by a shorter one.
  const std::string text = read_file(file.string());
  size_t end = text.rfind('\n');
  while (end != std::string::npos && end > 0) {
    const size_t before = text.rfind('\n', end - 1);
    const size_t begin = before == std::string::npos ? 0 : before + 1;
    nlohmann::json line =
        nlohmann::json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                              text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    if (line.is_object()) return line;
    end = before;
  }
  return std::nullopt;
}

}  // namespace weir
