#include "io/json_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

#include "io/json_depth.h"
#include "io/json_error.h"
#include "support/error.h"

namespace weir {
namespace {

// "line 3, column 14" of a byte counted from 0; columns count bytes.
std::string place_of(std::string_view text, size_t byte) {
  const std::string_view before = text.substr(0, byte);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  return fmt::format("line {}, column {}", line, byte - (before.rfind('\n') + 1) + 1);
}

// Finds keys that an object has twice, in a text that is known to be JSON.
class KeyScan {
 public:
  struct Found {
    std::string key;
    size_t offset;
  };

  explicit KeyScan(std::string_view text) : text_(text) {}

  std::vector<Found> run() {
    for (at_ = 0; at_ < text_.size(); ++at_) switch (text_[at_]) {
        case '{':
          keys_.emplace_back();
          in_object_.push_back(true);
          key_is_next_ = true;
          break;
        case '[':
          in_object_.push_back(false);
          break;
        case '}':
          keys_.pop_back();
          [[fallthrough]];
        case ']':
          in_object_.pop_back();
          key_is_next_ = false;
          break;
        case ',':
          key_is_next_ = in_object_.back();
          break;
        case '"':
          string();
          break;
        default:
          break;
      }
    return std::move(found_);
  }

 private:
  // From the opening quotation mark to the closing one.
  void string() {
    const size_t begin = at_++;
    bool escaped = false;
    for (; text_[at_] != '"'; ++at_)
      if (text_[at_] == '\\') escaped = true, ++at_;
    if (!key_is_next_) return;
    key_is_next_ = false;
    const std::string_view raw = text_.substr(begin, at_ + 1 - begin);
    std::string key(raw.substr(1, raw.size() - 2));
    if (escaped) key = nlohmann::json::parse(raw).get<std::string>();
    if (!keys_.back().insert(key).second && found_.size() < kMaxListed)
      found_.push_back({key, begin});
  }

  std::string_view text_;
  std::vector<Found> found_;
  size_t at_ = 0;
  bool key_is_next_ = false;
  std::vector<bool> in_object_;
  std::vector<std::unordered_set<std::string>> keys_;  // of the objects that are open
};

}  // namespace

template <typename Json>
Json parse_json(std::string_view text, std::string_view topic, const std::string& where) {
  if (!json_is_shallow(text))
    user_error(topic, "{} has arrays and objects that nest more than 64 deep; it is damaged.",
               where);
  Json value;
  try {
    value = Json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    const size_t byte = error.byte > 0 ? error.byte - 1 : 0;  // the library counts from 1
    const size_t mark = byte > 0 && byte < text.size() && text[byte - 1] == '/' ? byte - 1 : byte;
    if (mark < text.size() && (text[mark] == '#' || text[mark] == '/'))
      user_error(topic, "{}: {}: JSON has no comments; remove this one.", where,
                 place_of(text, mark));
    user_error(topic, "{} is not valid JSON: {}.", where, json_reason(error.what()));
  } catch (const nlohmann::json::exception& error) {  // a number that no double holds
    user_error(topic, "{} is not valid JSON: {}.", where, json_reason(error.what()));
  }
  Problems problems{std::string(topic)};
  for (const auto& [key, offset] : KeyScan(text).run())
    problems.add(
        fmt::format("{}: {}: the key \"{}\" is given twice in one object. Remove one of them.",
                    where, place_of(text, offset), key));
  problems.raise();
  return value;
}

std::vector<std::string> repeated_keys(std::string_view text) {
  std::vector<std::string> keys;
  for (KeyScan::Found& found : KeyScan(text).run()) keys.push_back(std::move(found.key));
  return keys;
}

template nlohmann::json parse_json(std::string_view, std::string_view, const std::string&);
template nlohmann::ordered_json parse_json(std::string_view, std::string_view, const std::string&);

}  // namespace weir
