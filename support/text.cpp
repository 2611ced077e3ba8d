#include "support/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

namespace weir {
namespace {

// Insertions, deletions, replacements and exchanges of two neighbours (optimal string alignment).
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before.swap(above);
    above.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

size_t common_prefix(std::string_view a, std::string_view b) {
  size_t n = 0;
  while (n < a.size() && n < b.size() && a[n] == b[n]) ++n;
  return n;
}

// Expands one level of {a,b}: returns the alternatives of the first brace pair, or nothing.
std::vector<std::string> expand_braces(std::string_view pattern) {
  size_t open = pattern.find('{');
  size_t close = open == std::string_view::npos ? open : pattern.find('}', open);
  if (close == std::string_view::npos) return {};
  std::vector<std::string> expanded;
  for (const std::string& choice : split(pattern.substr(open + 1, close - open - 1), ','))
    expanded.push_back(std::string(pattern.substr(0, open)) + choice +
                       std::string(pattern.substr(close + 1)));
  return expanded;
}

bool plain_glob_match(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t]) && pattern[p] != '*') {
      ++p, ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace

std::vector<std::string> nearest(std::string_view given, const std::vector<std::string>& candidates,
                                 size_t count) {
  constexpr size_t longest_name = 200;  // nobody misspells more
  std::vector<std::pair<size_t, std::string>> ranked;
  if (given.size() > longest_name) return {};
  for (const std::string& candidate : candidates) {
    // "rate" is the last part of "optimizer.rate".
    const bool tail = candidate.size() > given.size() + 1 && !given.empty() &&
                      candidate.ends_with(given) &&
                      candidate[candidate.size() - given.size() - 1] == '.';
    size_t distance = tail ? 0 : edit_distance(given, candidate);
    size_t longer = std::max(given.size(), candidate.size());
    if (distance * 3 <= longer || common_prefix(given, candidate) >= 4)
      ranked.emplace_back(distance, candidate);
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> names;
  for (const auto& [distance, name] : ranked) {
    if (names.size() == count) break;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

std::string did_you_mean(std::string_view given, const std::vector<std::string>& candidates) {
  std::vector<std::string> names = nearest(given, candidates);
  if (names.empty()) return "";
  std::string text = " Did you mean " + names[0];
  for (size_t i = 1; i < names.size(); ++i)
    text += (i + 1 == names.size() ? " or " : ", ") + names[i];
  return text + "?";
}

bool glob_match(std::string_view pattern, std::string_view text) {
  std::vector<std::string> choices = expand_braces(pattern);
  if (choices.empty()) return plain_glob_match(pattern, text);
  return std::any_of(choices.begin(), choices.end(),
                     [&](const std::string& choice) { return glob_match(choice, text); });
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  size_t start = 0;
  while (true) {
    size_t end = text.find(separator, start);
    parts.emplace_back(text.substr(start, end - start));
    if (end == std::string_view::npos) return parts;
    start = end + 1;
  }
}

std::string_view trim(std::string_view text) {
  const char* blanks = " \t\r\n";
  size_t first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

namespace {

// The bytes of the character of UTF-8 that a text begins with; 0 if it begins with none.
size_t character_size(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  const size_t size = first < 0x80                     ? 1
                      : first >= 0xC2 && first <= 0xDF ? 2
                      : first >= 0xE0 && first <= 0xEF ? 3
                      : first >= 0xF0 && first <= 0xF4 ? 4
                                                       : 0;
  if (size == 0 || text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i)
    if ((byte(i) & 0xC0) != 0x80) return 0;
  return size;
}

// Below 32, 127, and those from 128 to 159.
bool is_control(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return first < 32 || first == 127;
  return character.size() == 2 && first == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0;
}

// Names with ends of lines in them, that messages may hold.
std::vector<std::string>& names_of_lines() {
  static std::vector<std::string> names;
  return names;
}

std::string escaped(std::string_view text, bool keeps_lines) {
  std::string shown;
  while (!text.empty()) {
    const size_t size = character_size(text);
    const std::string_view character = text.substr(0, std::max<size_t>(size, 1));
    text.remove_prefix(character.size());
    if (size > 0 && ((keeps_lines && character == "\n") || !is_control(character)))
      shown += character;
    else
      for (char byte : character)
        shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  }
  return shown;
}

}  // namespace

std::string printable(std::string_view text) { return escaped(text, false); }

std::string printable_message(std::string_view text) {
  std::string message(text);
  for (const std::string& name : names_of_lines()) {
    const std::string shown = printable(name);
    for (size_t at = message.find(name); at != std::string::npos;
         at = message.find(name, at + shown.size()))
      message.replace(at, name.size(), shown);
  }
  return escaped(message, true);
}

void keep_on_one_line(const std::vector<std::string>& words) {
  const std::string separators = "/=,;:";
  std::vector<std::string>& names = names_of_lines();
  for (std::string word : words) {
    std::replace_if(
        word.begin(), word.end(), [&](char c) { return separators.find(c) != std::string::npos; },
        '/');
    for (std::string& name : split(word, '/'))
      if (name.find('\n') != std::string::npos && !trim(name).empty())
        names.push_back(std::move(name));
  }
  // A name may be a part of another.
  std::stable_sort(names.begin(), names.end(),
                   [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
}

std::string shortest(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return fmt::format("{}", value);
}

std::string human_bytes(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(units)) bytes /= 1024, ++unit;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, units[unit]);
}

std::optional<int64_t> parse_bytes(std::string_view text) {
  text = trim(text);
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  std::string unit(trim(text.substr(static_cast<size_t>(end - text.data()))));
  for (char& c : unit) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  double factor = 1;
  if (!unit.empty() && unit != "b") {
    const size_t power = std::string_view("kmgt").find(unit[0]);
    const std::string rest = unit.substr(1);
    if (power == std::string_view::npos || (!rest.empty() && rest != "b" && rest != "ib"))
      return std::nullopt;
    factor = std::pow(1024.0, static_cast<double>(power + 1));
  }
  const double bytes = number * factor;
  if (!(bytes >= 1) || bytes > 9e18) return std::nullopt;
  return static_cast<int64_t>(bytes);
}

}  // namespace weir
