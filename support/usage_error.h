#pragma once
// Mistakes in how a command was called, and the collection of all of them with those of its files.
#include <string>
#include <utility>
#include <vector>

#include "support/error.h"

namespace weir {

/// An option, a key, a value outside its range, or values that do not fit together. The command
/// exits with 2.
class UsageError : public UserError {
 public:
  using UserError::UserError;
};

/// Everything wrong with a command line and its configuration.
class UsageProblems {
 public:
  explicit UsageProblems(std::string topic) : topic_(std::move(topic)) {}
  /// A mistake in how the command was called. The same message is kept once.
  void add(std::string message);
  /// What is wrong with a file or the machine, though the call may be right.
  void add_failure(std::string message);
  /// Runs `part` and keeps the message of its UserError.
  template <typename Part>
  void collect(Part part) {
    try {
      part();
    } catch (const UsageError& error) {
      add(error.what());
    } catch (const UserError& error) {
      add_failure(error.what());
    }
  }
  /// Adds the messages of others, each behind `where` ("arm a: ").
  void add_all(const UsageProblems& others, const std::string& where);
  const std::vector<std::string>& messages() const { return messages_; }
  bool empty() const { return messages_.empty(); }
  /// Throws one error that lists all messages, if there are any: a UsageError if one of them is.
  void raise() const;

 private:
  std::string topic_;
  std::vector<std::string> messages_;
  bool usage_ = false;
};

}  // namespace weir
