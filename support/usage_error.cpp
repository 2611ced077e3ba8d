#include "support/usage_error.h"

#include <algorithm>

namespace weir {

void UsageProblems::add_failure(std::string message) {
  if (std::find(messages_.begin(), messages_.end(), message) == messages_.end())
    messages_.push_back(std::move(message));
}

void UsageProblems::add(std::string message) {
  usage_ = true;
  add_failure(std::move(message));
}

void UsageProblems::add_all(const UsageProblems& others, const std::string& where) {
  usage_ = usage_ || others.usage_;
  for (const std::string& message : others.messages_) add_failure(where + message);
}

void UsageProblems::raise() const {
  if (messages_.empty()) return;
  std::string text;
  if (messages_.size() == 1) {
    // A message of another part of Weir begins with a topic of its own.
    text =
        messages_[0].starts_with('[') ? messages_[0] : fmt::format("[{}] {}", topic_, messages_[0]);
  } else {
    text = fmt::format("[{}] {} problems:", topic_, messages_.size());
    for (const std::string& message : messages_) text += "\n  - " + message;
  }
  if (usage_) throw UsageError(text);
  throw UserError(text);
}

}  // namespace weir
