#pragma once
// JSON from outside: one way to parse every file that is read whole.
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

/// The value of a text, as `Json`: nlohmann::json (keys in the order of the alphabet) or
/// nlohmann::ordered_json (in the order of the text). UserError of that topic, with `where` (the
/// file), line and column, for a text that is no JSON; with the name of the key for an object that
/// has a key twice, of which a reader would have to choose one; and for arrays and objects that
/// nest more than 64 deep.
template <typename Json>
Json parse_json(std::string_view text, std::string_view topic, const std::string& where);

/// The keys that an object has twice, the first few, in a text that a parser has taken: for texts
/// whose messages are not those of parse_json.
std::vector<std::string> repeated_keys(std::string_view text);

extern template nlohmann::json parse_json(std::string_view, std::string_view, const std::string&);
extern template nlohmann::ordered_json parse_json(std::string_view, std::string_view,
                                                  const std::string&);

}  // namespace weir
