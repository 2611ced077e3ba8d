#include "support/error.h"

#include <algorithm>

namespace weir {

void internal_error_at(const std::string& message, std::source_location where) {
  std::string_view file = where.file_name();
  if (size_t slash = file.rfind('/'); slash != std::string_view::npos) {
    size_t previous = slash == 0 ? std::string_view::npos : file.rfind('/', slash - 1);
    file.remove_prefix(previous == std::string_view::npos ? 0 : previous + 1);
  }
  throw InternalError(fmt::format("internal error: {} ({}:{}). This is a bug in Weir.", message,
                                  file, where.line()));
}

void Problems::add(std::string message) {
  if (std::find(messages_.begin(), messages_.end(), message) == messages_.end())
    messages_.push_back(std::move(message));
}

void Problems::raise() const {
  if (messages_.empty()) return;
  if (messages_.size() == 1) throw UserError(fmt::format("[{}] {}", topic_, messages_[0]));
  std::string text = fmt::format("[{}] {} problems:", topic_, messages_.size());
  for (const std::string& message : messages_) text += "\n  - " + message;
  throw UserError(text);
}

}  // namespace weir
