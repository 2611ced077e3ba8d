#pragma once
// The two kinds of error. A UserError is about the user's input and says what was given, what is
// needed and a way out; an InternalError is a bug of ours and says where. They are never mixed.
#include <fmt/format.h>

#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weir {

/// A mistake in what the user gave: shape, name, configuration, file. The command exits with 1.
class UserError : public std::runtime_error {
 public:
  explicit UserError(const std::string& message) : std::runtime_error(message) {}
};

/// A bug in Weir. The message carries file, line and the condition that failed.
class InternalError : public std::logic_error {
 public:
  explicit InternalError(const std::string& message) : std::logic_error(message) {}
};

/// Throws UserError "[topic] message"; the topic is the op, the file kind or the command concerned.
template <typename... Args>
[[noreturn]] void user_error(std::string_view topic, fmt::format_string<Args...> format,
                             Args&&... args) {
  throw UserError(fmt::format("[{}] {}", topic, fmt::format(format, std::forward<Args>(args)...)));
}

[[noreturn]] void internal_error_at(const std::string& message,
                                    std::source_location where = std::source_location::current());

/// What a search finds where it is known to be there.
template <typename T>
T expect(std::optional<T> found, std::source_location where = std::source_location::current()) {
  if (!found.has_value()) internal_error_at("what was known to be there is missing", where);
  return *std::move(found);
}

/// A message names at most so many things of one kind; "and N more" stands for the rest.
constexpr size_t kMaxListed = 20;

/// Collects every mistake of one input, so that the user sees all of them at once.
class Problems {
 public:
  explicit Problems(std::string topic) : topic_(std::move(topic)) {}
  /// The same message is kept once.
  void add(std::string message);
  bool empty() const { return messages_.empty(); }
  const std::vector<std::string>& messages() const { return messages_; }
  /// Throws one UserError that lists all messages, if there are any.
  void raise() const;

 private:
  std::string topic_;
  std::vector<std::string> messages_;
};

}  // namespace weir

/// Checks an invariant of ours; the message is built only on failure.
#define WEIR_CHECK(condition, ...)                                                           \
  do {                                                                                       \
    if (!(condition))                                                                        \
      ::weir::internal_error_at(                                                             \
          ::fmt::format("condition {} failed: {}", #condition, ::fmt::format(__VA_ARGS__))); \
  } while (false)
