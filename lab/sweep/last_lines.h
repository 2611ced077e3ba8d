#pragma once
// The last lines of a file of JSON Lines.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace weir {

/// The last whole line that is a JSON object, none if there is no such file or line.
std::optional<nlohmann::json> last_line_of(const std::filesystem::path& file);

}  // namespace weir
