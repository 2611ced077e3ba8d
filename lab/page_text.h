#pragma once
// Texts of HTML pages: escaping, tables of keys, the filling of a template.
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace weir {

/// Text that may stand anywhere in HTML.
std::string escaped(std::string_view text);
/// JSON that may stand inside a script element: no "<" can end it or open a comment.
std::string script_json(const nlohmann::json& value);
/// A string as it is, anything else as JSON.
std::string plain(const nlohmann::ordered_json& value);
/// Calls use("a.b.c", leaf) for every leaf of nested objects, in their order.
void for_each_leaf(
    const nlohmann::ordered_json& value, const std::string& path,
    const std::function<void(const std::string&, const nlohmann::ordered_json&)>& use);
/// A table of all leaves.
std::string key_table(const nlohmann::ordered_json& value);
/// The template with every {{name}} replaced by its text; internal error if one is missing.
std::string filled(std::string_view page, const std::map<std::string, std::string>& texts);

}  // namespace weir
