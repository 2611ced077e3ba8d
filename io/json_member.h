#pragma once
// Looking into JSON from outside without throwing: what is absent or of another kind is a default.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "io/json_depth.h"
#include "io/json_error.h"
#include "support/error.h"

namespace weir {

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
