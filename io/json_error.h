#pragma once
// The part of a JSON library's message that helps a user.
#include <string_view>

namespace weir {

/// "[json.exception.parse_error.101] parse error at ..." -> "parse error at ...".
inline std::string_view json_reason(std::string_view what) {
  size_t from = what.find("] ");
  return from == std::string_view::npos ? what : what.substr(from + 2);
}

}  // namespace weir
