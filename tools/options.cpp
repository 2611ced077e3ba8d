#include "tools/options.h"

#include <fmt/format.h>

#include <algorithm>

#include "support/text.h"
#include "tools/paths.h"

namespace weir {
namespace {

// What people who come from other programs call an option, and its name here.
const std::vector<std::pair<std::string, std::vector<std::string>>>& option_aliases() {
  static const std::vector<std::pair<std::string, std::vector<std::string>>> table = {
      {"--model", {"--checkpoint", "--ckpt", "--model-path", "--model-name", "--pretrained", "-m"}},
      {"--text", {"--file", "--files", "--data", "--dataset", "--input", "--prompt", "-f"}},
      {"--batch", {"--batch-size", "--bs", "-b"}},
      {"--length", {"--seq-len", "--seq-length", "--max-length", "--block-size", "--seqlen"}},
      {"--context", {"--ctx", "--ctx-size", "--max-length", "--length", "-c"}},
      {"--threads", {"--num-threads", "--cores", "--jobs", "-t", "-j"}},
      {"--json", {"--output", "--out", "-o", "--record"}},
      {"--out", {"--output", "--output-dir", "-o", "--json"}},
      {"--steps", {"--max-steps", "--iters", "--num-steps", "-n"}},
      {"--layers", {"--n-layer", "--num-layers", "--num-hidden-layers"}},
      {"--seed", {"--random-seed", "-s"}},
      {"--probe", {"--hook", "--probes"}},
      {"--overwrite", {"--force", "--overwrite-output-dir", "-f"}},
      {"--resume", {"--continue", "--resume-from-checkpoint"}},
      {"--interpret", {"--interpreter", "--reference"}},
      {"--interpreter", {"--interpret", "--reference"}},
      {"--memory", {"--max-memory", "--mem"}},
      {"--dtype", {"--torch-dtype", "--outtype", "--type"}},
      {"--shard", {"--max-shard-size", "--shard-size", "--split-max-size"}},
  };
  return table;
}

std::string value_name(const Option& option) {
  if (option.rule.path == PathKind::output_folder) return "FOLDER";
  if (option.rule.path != PathKind::none) return option.is_list() ? "PATH..." : "PATH";
  if (std::holds_alternative<std::string*>(option.slot) || option.is_list()) return "TEXT";
  return "N";
}

std::string default_text(const ValueSlot& slot) {
  return std::visit(
      [](const auto* value) -> std::string {
        using T = std::decay_t<decltype(*value)>;
        if constexpr (std::is_same_v<T, std::string>)
          return *value;
        else if constexpr (std::is_arithmetic_v<T>)
          return fmt::format("{}", *value);
        else
          return "";
      },
      slot);
}

std::string details(const Option& option) {
  std::vector<std::string> parts;
  if (const std::string range = range_text(option.slot, option.rule);
      !range.empty() && !option.is_flag)
    parts.push_back(range);
  if (option.shows_default) parts.push_back("default " + default_text(option.slot));
  if (option.required && !option.positional()) parts.push_back("needed");
  return parts.empty() ? "" : fmt::format(" ({})", join(parts, "; "));
}

std::string line(const std::string& left, const std::string& right) {
  constexpr size_t column = 26;
  if (left.size() + 1 >= column) return fmt::format("  {}\n  {:{}}{}\n", left, "", column, right);
  return fmt::format("  {:{}}{}\n", left, column, right);
}

bool is_option(const std::string& word) { return word.size() > 1 && word[0] == '-'; }

}  // namespace

Option& OptionTable::add(std::string name, ValueSlot slot, ValueRule rule, std::string meaning) {
  rows_.push_back({.name = std::move(name),
                   .slot = slot,
                   .rule = std::move(rule),
                   .meaning = std::move(meaning)});
  return rows_.back();
}

Option& OptionTable::flag(std::string name, bool& slot, std::string meaning) {
  Option& option = add(std::move(name), &slot, {}, std::move(meaning));
  option.is_flag = true;
  return option;
}

void OptionTable::exclude(const std::string& one, const std::string& other,
                          const std::string& why) {
  exclusions_.push_back({one, other, why});
}

Option* OptionTable::find(const std::string& name) {
  for (Option& option : rows_)
    if (option.name == name) return &option;
  return nullptr;
}

bool OptionTable::given(const std::string& name) const {
  return std::any_of(rows_.begin(), rows_.end(), [&](const Option& option) {
    return option.name == name && !option.given.empty();
  });
}

bool OptionTable::refused(const std::string& name) const {
  return std::any_of(rows_.begin(), rows_.end(),
                     [&](const Option& option) { return option.name == name && option.refused; });
}

std::string OptionTable::unknown(const std::string& name) const {
  std::string more = hint_ ? hint_(name) : "";
  std::vector<std::string> names, aliased;
  for (const Option& option : rows_)
    if (!option.positional()) names.push_back(option.name);
  for (const auto& [option, aliases] : option_aliases())
    if (std::find(aliases.begin(), aliases.end(), name) != aliases.end() &&
        std::find(names.begin(), names.end(), option) != names.end())
      aliased.push_back(option);
  if (more.empty())
    more = aliased.empty() ? did_you_mean(name, names)
                           : fmt::format(" Did you mean {}?", join(aliased, " or "));
  return fmt::format("there is no option {}.{}", short_text(name), more);
}

void OptionTable::take(Option& option, const std::string& text, UsageProblems& problems) {
  option.given.push_back(text);
  if (auto* const* list = std::get_if<std::vector<std::string>*>(&option.slot)) {
    std::string element;
    const std::string wrong = read_value(option.name, text, &element, option.rule);
    if (!wrong.empty()) {
      option.refused = true;
      return problems.add(wrong);
    }
    if (option.given.size() == 1) (*list)->clear();
    return (*list)->push_back(element);
  }
  if (option.given.size() > 1)
    return problems.add(
        fmt::format("{} is given {} times; give it once.", option.name, option.given.size()));
  const std::string wrong = read_value(option.name, text, option.slot, option.rule);
  option.refused = !wrong.empty();
  if (option.refused) problems.add(wrong);
}

// Reads the option at `at`; the place of the next word.
size_t OptionTable::read_option(const std::vector<std::string>& words, size_t at,
                                UsageProblems& problems) {
  const size_t equals = words[at].find('=');
  const std::string name = words[at].substr(0, equals);
  Option* option = find(name);
  if (!option) {
    problems.add(unknown(name));
    // What follows an unknown option may be its value.
    const bool value = equals == std::string::npos && at + 1 < words.size() &&
                       !is_option(words[at + 1]) && words[at + 1].find('=') == std::string::npos;
    return at + (value ? 2 : 1);
  }
  if (option->is_flag) {
    if (equals != std::string::npos)
      problems.add(fmt::format("{} takes no value, but '{}' is given.", name,
                               short_text(words[at].substr(equals + 1))));
    take(*option, "true", problems);
    return at + 1;
  }
  if (equals != std::string::npos) {
    take(*option, words[at].substr(equals + 1), problems);
    return at + 1;
  }
  const auto is_value = [&](size_t i) {
    return i < words.size() && words[i] != "--" && !find(words[i].substr(0, words[i].find('=')));
  };
  if (!is_value(at + 1)) {
    option->given.emplace_back();
    option->refused = true;
    problems.add(fmt::format("{} needs a value: {}.", name, option->meaning));
    return at + 1;
  }
  take(*option, words[at + 1], problems);
  at += 2;
  while (option->several && is_value(at) && !is_option(words[at]))
    take(*option, words[at++], problems);
  return at;
}

void OptionTable::read_word(const std::string& word, UsageProblems& problems) {
  for (Option& option : rows_)
    if (option.positional() && (option.given.empty() || option.is_list()))
      return take(option, word, problems);
  problems.add(fmt::format("'{}' is one word too many for weir {}.", short_text(word), command_));
}

void OptionTable::read(const std::vector<std::string>& words) {
  UsageProblems problems(command_);
  bool options = true;
  for (size_t at = 0; at < words.size();) {
    if (options && words[at] == "--")
      options = false, ++at;
    else if (options && is_option(words[at]))
      at = read_option(words, at, problems);
    else
      read_word(words[at++], problems);
  }
  for (const Option& option : rows_)
    if (option.required && option.given.empty())
      problems.add(fmt::format("{} is missing: {}.", option.name, option.meaning));
  for (const auto& [one, other, why] : exclusions_)
    if (given(one) && given(other))
      problems.add(
          fmt::format("{} and {} exclude each other.{}", one, other, why.empty() ? "" : " " + why));
  for (const auto& check : checks_) check(problems);
  check_paths(rows_, problems);
  problems.raise();
}

std::string OptionTable::help() const {
  std::string usage = "weir " + command_, words, options;
  for (const Option& option : rows_) {
    if (option.positional()) {
      const std::string word = option.name + (option.is_list() ? "..." : "");
      usage += option.required ? " " + word : " [" + word + "]";
      words += line(option.name, option.meaning + details(option));
    } else {
      options += line(option.is_flag ? option.name : option.name + " " + value_name(option),
                      option.meaning + details(option));
    }
  }
  options += line("-h, --help", "print this and end");
  std::string text = fmt::format("{}\n\nUsage: {} [options]\n", summary_, usage);
  if (!words.empty()) text += "\n" + words;
  return text + "\nOptions:\n" + options + (footer_.empty() ? "" : "\n" + footer_ + "\n");
}

bool asks_for_help(const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (word == "--") return false;
    if (word == "-h" || word == "--help") return true;
  }
  return false;
}

}  // namespace weir
