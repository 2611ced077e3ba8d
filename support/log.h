#pragma once
// Messages to stderr by level; WEIR_LOG chooses the least level shown.
#include <fmt/format.h>

#include <string>

namespace weir {

enum class LogLevel { error, warning, info, debug };

void log_message(LogLevel level, const std::string& message);

/// The same, but a message that was given before is not repeated.
void log_once(LogLevel level, const std::string& message);

template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace weir
