#pragma once
// The table of a command's options: name, where its value goes, what it may be, and what it means,
// in one row. Help, parsing, checks and hints come from the rows; everything wrong with a command
// line is said at once, before any file is read.
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/usage_error.h"
#include "support/value_rule.h"

namespace weir {

/// A row. Methods refine it and return it.
struct Option {
  std::string name;  ///< "--batch"; of a word without a name "file"
  ValueSlot slot;    ///< of a list: one element a word
  ValueRule rule;
  std::string meaning;
  bool is_flag = false;   ///< takes no value: given, its slot is true
  bool required = false;  ///< a command without it is wrong
  bool several = false;   ///< takes all words up to the next option
  bool shows_default = false;
  std::vector<std::string> given = {};  ///< the values on the command line
  bool refused = false;                 ///< one of them is no value of the rule
  /// Of an output: the file that is written where none is given, and what messages call it.
  std::string implied = {}, implied_name = {};

  bool positional() const { return name[0] != '-'; }
  bool is_list() const { return std::holds_alternative<std::vector<std::string>*>(slot); }
  Option& needed() { return required = true, *this; }
  Option& many() { return several = true, *this; }
  /// Help names the value that the slot has when the row is made.
  Option& with_default() { return shows_default = true, *this; }
  /// A file that follows from other options is written, checked as if it were given.
  void imply(std::string called, std::string path) {
    implied_name = std::move(called);
    implied = std::move(path);
  }
};

class OptionTable {
 public:
  OptionTable(std::string command, std::string summary)
      : command_(std::move(command)), summary_(std::move(summary)) {}

  /// A row whose slot outlives the table. A name that begins with "-" is an option, any other one
  /// stands for a word by its place. An option of a list may be given again.
  Option& add(std::string name, ValueSlot slot, ValueRule rule, std::string meaning);
  Option& flag(std::string name, bool& slot, std::string meaning);
  /// What else must hold between options; called once all values are read.
  void check(std::function<void(UsageProblems&)> check) { checks_.push_back(std::move(check)); }
  /// Two options of which one makes the other senseless; `why` is a sentence for the message.
  void exclude(const std::string& one, const std::string& other, const std::string& why = "");
  void footer(std::string text) { footer_ = std::move(text); }
  /// What runs when all is well; returns the exit status.
  void action(std::function<int()> action) { action_ = std::move(action); }
  /// Says more about a word that is no option, "" for nothing; asked before the nearest names are.
  void hint(std::function<std::string(const std::string&)> hint) { hint_ = std::move(hint); }

  const std::string& command() const { return command_; }
  const std::string& summary() const { return summary_; }
  const std::deque<Option>& rows() const { return rows_; }
  bool given(const std::string& name) const;
  /// Whether a value of the option was wrong, of which nothing else should then be said.
  bool refused(const std::string& name) const;

  /// Reads the words after the command. Throws one error that lists everything: unknown options,
  /// values outside their range, missing ones, inputs that are not there, outputs that cannot be
  /// written or are one and the same file. A UsageError unless all of it is about files.
  void read(const std::vector<std::string>& words);
  int run() const { return action_(); }
  std::string help() const;

 private:
  Option* find(const std::string& name);
  size_t read_option(const std::vector<std::string>& words, size_t at, UsageProblems& problems);
  void read_word(const std::string& word, UsageProblems& problems);
  void take(Option& option, const std::string& text, UsageProblems& problems);
  std::string unknown(const std::string& name) const;

  std::string command_, summary_, footer_;
  std::deque<Option> rows_;
  std::vector<std::function<void(UsageProblems&)>> checks_;
  struct Exclusion {
    std::string one, other, why;
  };
  std::vector<Exclusion> exclusions_;
  std::function<int()> action_;
  std::function<std::string(const std::string&)> hint_;
};

/// Whether the words ask for help; everything after "--" is no option.
bool asks_for_help(const std::vector<std::string>& words);

}  // namespace weir
