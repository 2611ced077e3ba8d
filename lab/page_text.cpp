#include "lab/page_text.h"

#include <fmt/format.h>

#include "support/error.h"

namespace weir {

using nlohmann::json;
using nlohmann::ordered_json;

std::string escaped(std::string_view text) {
  std::string result;
  for (char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string script_json(const json& value) {
  std::string result;
  for (char c : value.dump(-1, ' ', false, json::error_handler_t::replace)) {
    if (c == '<')
      result += "\\u003c";
    else
      result += c;
  }
  return result;
}

std::string plain(const ordered_json& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

void for_each_leaf(const ordered_json& value, const std::string& path,
                   const std::function<void(const std::string&, const ordered_json&)>& use) {
  if (!value.is_object()) return use(path, value);
  for (const auto& [key, child] : value.items())
    for_each_leaf(child, path.empty() ? key : fmt::format("{}.{}", path, key), use);
}

std::string key_table(const ordered_json& value) {
  std::string rows;
  for_each_leaf(value, "", [&](const std::string& key, const ordered_json& leaf) {
    rows += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escaped(key),
                        escaped(plain(leaf)));
  });
  return "<table class=\"keys\">" + rows + "</table>";
}

std::string filled(std::string_view page, const std::map<std::string, std::string>& texts) {
  std::string result;
  for (size_t at = 0;;) {
    const size_t open = page.find("{{", at);
    result += page.substr(at, open - at);
    if (open == std::string_view::npos) return result;
    const size_t close = page.find("}}", open);
    WEIR_CHECK(close != std::string_view::npos, "the page template has an unclosed {{{{");
    const std::string name(page.substr(open + 2, close - open - 2));
    const auto text = texts.find(name);
    WEIR_CHECK(text != texts.end(), "the page template asks for {}, which is not filled in", name);
    result += text->second;
    at = close + 2;
  }
}

}  // namespace weir
