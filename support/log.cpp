#include "support/log.h"

#include <cstdio>
#include <mutex>
#include <set>

#include "support/env.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

LogLevel threshold() {
  static const LogLevel level = [] {
    std::string text = environment("WEIR_LOG");
    if (text.empty() || text == "info") return LogLevel::info;
    if (text == "error") return LogLevel::error;
    if (text == "warning") return LogLevel::warning;
    if (text == "debug") return LogLevel::debug;
    user_error("WEIR_LOG", "unknown level '{}'. Use error, warning, info or debug.", text);
  }();
  return level;
}

}  // namespace

void log_message(LogLevel level, const std::string& message) {
  if (level > threshold()) return;
  const char* prefix = level == LogLevel::error     ? "error: "
                       : level == LogLevel::warning ? "warning: "
                                                    : "";
  std::fprintf(stderr, "%s%s\n", prefix, printable_message(message).c_str());
}

void log_once(LogLevel level, const std::string& message) {
  static std::mutex mutex;
  static std::set<std::string> given;
  {
    const std::lock_guard lock(mutex);
    if (!given.insert(message).second) return;
  }
  log_message(level, message);
}

}  // namespace weir
