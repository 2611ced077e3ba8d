#pragma once
// JSON that a person may have written: read whole, or refused with file, line and column.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace weir {

/// The value of a JSON text; `source` names it in messages, `topic` begins them. User errors:
/// syntax ("run.json:3:14: ..."), comments, nesting deeper than 64, a key that an object has twice.
nlohmann::ordered_json parse_json(std::string_view text, const std::string& source,
                                  std::string_view topic);

}  // namespace weir
