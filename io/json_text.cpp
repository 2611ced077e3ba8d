#include "io/json_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <vector>

#include "io/json_depth.h"
#include "support/error.h"

namespace weir {
namespace {

using OrderedJson = nlohmann::ordered_json;

// "run.json:3:14" of a byte, counted from 0; columns count bytes.
std::string json_place(std::string_view text, size_t byte, const std::string& source) {
  const std::string_view before = text.substr(0, std::min(byte, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  const size_t column =
      newline == std::string_view::npos ? before.size() : before.size() - newline - 1;
  return fmt::format("{}:{}:{}", source, line, column + 1);
}

// Of the library's message the part that names neither its exception nor the place.
std::string syntax_reason(std::string_view what) {
  for (std::string_view before : {"] ", ": "})
    if (const size_t from = what.find(before); from != std::string_view::npos)
      what = what.substr(from + before.size());
  return std::string(what);
}

}  // namespace

nlohmann::ordered_json parse_json(std::string_view text, const std::string& source,
                                  std::string_view topic) {
  if (!json_is_shallow(text))
    user_error(topic, "{} nests arrays and objects more than 64 deep.", source);
  std::vector<std::set<std::string>> objects;
  std::string twice;
  const auto watch = [&](int, OrderedJson::parse_event_t event, OrderedJson& value) {
    if (event == OrderedJson::parse_event_t::object_start) objects.emplace_back();
    if (event == OrderedJson::parse_event_t::object_end) objects.pop_back();
    if (event == OrderedJson::parse_event_t::key &&
        !objects.back().insert(value.get<std::string>()).second)
      twice = value.get<std::string>();
    return true;
  };
  OrderedJson value;
  try {
    value = OrderedJson::parse(text, watch);
  } catch (const OrderedJson::parse_error& error) {
    const size_t byte = error.byte > 0 ? error.byte - 1 : 0;
    const bool comment = byte < text.size() && (text[byte] == '#' || text[byte] == '/' ||
                                                (byte > 0 && text[byte - 1] == '/'));
    if (comment)
      user_error(topic, "{}: JSON has no comments; remove this one.",
                 json_place(text, byte, source));
    user_error(topic, "{}: {}.", json_place(text, byte, source), syntax_reason(error.what()));
  } catch (const OrderedJson::exception& error) {  // a number that no double holds
    user_error(topic, "{}: {}.", source, syntax_reason(error.what()));
  }
  if (!twice.empty())
    user_error(topic, "{} has the key \"{}\" twice in one object.", source, twice);
  return value;
}

}  // namespace weir
