#include "support/value_rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "support/text.h"

namespace weir {
namespace {

template <typename T>
bool parse_number(std::string_view text, T& result) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

template <typename T>
bool parse_within(std::string_view text, const ValueRule& rule, T& result) {
  T number{};
  if (!parse_number(text, number)) return false;
  const auto value = static_cast<double>(number);
  if (!std::isfinite(value) || value < rule.low || value > rule.high) return false;
  result = number;
  return true;
}

// A bound as people write it: whole numbers without an exponent.
std::string bound(double value) {
  if (value == std::trunc(value) && std::abs(value) < 1e15)
    return fmt::format("{}", static_cast<int64_t>(value));
  return shortest(value);
}

std::string range(const ValueRule& rule) {
  const bool low = std::isfinite(rule.low), high = std::isfinite(rule.high);
  if (low && high) return fmt::format("from {} to {}", bound(rule.low), bound(rule.high));
  if (low) return fmt::format("of at least {}", bound(rule.low));
  return high ? fmt::format("of at most {}", bound(rule.high)) : "";
}

std::string with_range(const std::string& what, const ValueRule& rule) {
  const std::string limits = range(rule);
  return limits.empty() ? what : what + " " + limits;
}

// What is needed, for messages.
struct Needed {
  const ValueRule& rule;
  std::string operator()(const bool*) const { return "true or false"; }
  std::string operator()(const double*) const { return with_range("a number", rule); }
  std::string operator()(const std::string*) const {
    return rule.form.empty() ? "a text that is not empty" : rule.form;
  }
  std::string operator()(const std::vector<int64_t>*) const {
    return with_range("a list of whole numbers", rule) + ", separated by ','";
  }
  std::string operator()(const std::vector<std::string>*) const {
    return rule.form.empty() ? "a list of texts that are not empty" : rule.form;
  }
  template <typename Integer>
  std::string operator()(const Integer*) const {
    return with_range("a whole number", rule);
  }
};

struct Read {
  const std::string& text;
  const ValueRule& rule;

  // Of a list of texts.
  std::vector<std::string> parts() const {
    if (text.ends_with('\n')) return split(text, '\n');
    if (rule.split) return rule.split(text);
    const bool commas = text.find(';') == std::string::npos && text.find(':') == std::string::npos;
    return split(text, commas ? ',' : ';');
  }
  bool is_text(const std::string& value) const {
    return (!value.empty() || rule.may_be_empty) &&
           (rule.choices.empty() ||
            std::find(rule.choices.begin(), rule.choices.end(), value) != rule.choices.end()) &&
           (!rule.fits || rule.fits(value));
  }
  std::string in_full(const std::string& value) const {
    for (const auto& [short_form, choice] : rule.short_forms)
      if (value == short_form) return choice;
    return value;
  }
  bool operator()(bool* slot) const {
    if (text != "true" && text != "false") return false;
    *slot = text == "true";
    return true;
  }
  bool operator()(std::string* slot) const {
    const std::string value = in_full(text);
    if (!is_text(value)) return false;
    *slot = value;
    return true;
  }
  bool operator()(std::vector<int64_t>* slot) const {
    std::vector<int64_t> numbers;
    for (const std::string& part : split(text, ',')) {
      if (trim(text).empty()) break;
      numbers.push_back(0);
      if (!parse_within(trim(part), rule, numbers.back())) return false;
    }
    *slot = numbers;
    return true;
  }
  bool operator()(std::vector<std::string>* slot) const {
    std::vector<std::string> texts;
    for (const std::string& part : parts()) {
      if (trim(part).empty()) continue;
      texts.emplace_back(trim(part));
      if (!is_text(texts.back())) return false;
    }
    *slot = texts;
    return true;
  }
  template <typename Number>
  bool operator()(Number* slot) const {
    return parse_within(text, rule, *slot);
  }
};

}  // namespace

ValueRule within(double low, double high) {
  ValueRule rule;
  rule.low = low;
  rule.high = high;
  return rule;
}

ValueRule one_of(std::vector<std::string> choices,
                 std::vector<std::pair<std::string, std::string>> short_forms) {
  ValueRule rule;
  rule.choices = std::move(choices);
  rule.short_forms = std::move(short_forms);
  return rule;
}

ValueRule any_text() { return {}; }

ValueRule some_text() {
  ValueRule rule;
  rule.may_be_empty = false;
  return rule;
}

ValueRule of_form(std::string form, std::function<bool(const std::string&)> fits) {
  ValueRule rule;
  rule.form = std::move(form);
  rule.fits = std::move(fits);
  return rule;
}

ValueRule memory_size() {
  return of_form("a size such as 8GiB or 500M", [](const std::string& text) {
    return text.empty() || parse_bytes(text).has_value();
  });
}

ValueRule input_path() {
  ValueRule rule = some_text();
  rule.path = PathKind::input;
  return rule;
}

ValueRule output_file() {
  ValueRule rule = some_text();
  rule.path = PathKind::output_file;
  return rule;
}

ValueRule output_folder() {
  ValueRule rule = some_text();
  rule.path = PathKind::output_folder;
  return rule;
}

std::string short_text(const std::string& text) {
  constexpr size_t longest = 80;
  std::string line;
  for (char c : text.substr(0, longest))
    line += static_cast<unsigned char>(c) < 32 || c == 127 ? ' ' : c;
  // No part of a character stays at the cut.
  if (text.size() > longest)
    while (!line.empty() && (static_cast<unsigned char>(line.back()) & 0x80) != 0) line.pop_back();
  return text.size() > longest ? line + "..." : line;
}

std::string no_choice(const std::string& name, const std::string& text,
                      const std::vector<std::string>& choices) {
  std::string list = choices.front();
  for (size_t i = 1; i < choices.size(); ++i)
    list += (i + 1 == choices.size() ? " or " : ", ") + choices[i];
  return fmt::format("{} is '{}'. Use {}.{}", name, short_text(text), list,
                     did_you_mean(text, choices));
}

std::string read_value(const std::string& name, const std::string& text, const ValueSlot& slot,
                       const ValueRule& rule) {
  if (std::visit(Read{text, rule}, slot)) return "";
  if (!rule.choices.empty()) {
    for (const auto& [refused, why] : rule.refusals)
      if (refused == text) return fmt::format("{} is '{}'. {}", name, short_text(text), why);
    return no_choice(name, text, rule.choices);
  }
  std::string wrong = fmt::format("{} is '{}', but {} is needed.", name, short_text(text),
                                  std::visit(Needed{rule}, slot));
  for (const auto& [refused, why] : rule.refusals)
    if (refused == text) wrong += " " + why;
  return wrong;
}

std::string range_text(const ValueSlot& slot, const ValueRule& rule) {
  if (!rule.choices.empty()) return join(rule.choices, ", ");
  if (std::holds_alternative<bool*>(slot) || std::holds_alternative<std::string*>(slot) ||
      std::holds_alternative<std::vector<std::string>*>(slot))
    return "";
  const bool low = std::isfinite(rule.low), high = std::isfinite(rule.high);
  if (low && high) return fmt::format("{} to {}", bound(rule.low), bound(rule.high));
  if (low) return fmt::format("at least {}", bound(rule.low));
  return high ? fmt::format("at most {}", bound(rule.high)) : "";
}

}  // namespace weir
