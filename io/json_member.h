#pragma once
// Looking into JSON from outside without throwing: what is absent or of another kind is a default.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "io/json_depth.h"
#include "io/json_error.h"
#include "support/error.h"

namespace weir {

/// The JSON in `text`; user error of `[tokenizer]` that names `source` when it is none.
inline nlohmann::json parse_tokenizer_text(std::string_view text, const std::string& source) {
  if (!json_is_shallow(text))
    user_error("tokenizer", "{} is nested too deeply; it is no tokenizer.", source);
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    user_error("tokenizer", "{} is not valid JSON: {}.", source, json_reason(error.what()));
  }
}

/// The member, or null when absent.
inline const nlohmann::json& member(const nlohmann::json& object, const char* key) {
  static const nlohmann::json null;
  if (!object.is_object()) return null;
  auto found = object.find(key);
  return found == object.end() ? null : *found;
}

inline bool flag(const nlohmann::json& object, const char* key, bool otherwise = false) {
  const nlohmann::json& value = member(object, key);
  return value.is_boolean() ? value.get<bool>() : otherwise;
}

inline std::string text_of(const nlohmann::json& value) {
  return value.is_string() ? value.get<std::string>() : "";
}

}  // namespace weir
