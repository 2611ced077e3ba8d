#include "lab/measure/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "support/log.h"

namespace weir {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kBarWidth = 24;
constexpr double kRedrawSeconds = 0.1;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

Progress::Progress(std::string arm, int64_t first, int64_t steps)
    : arm_(std::move(arm)),
      first_(first),
      steps_(steps),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      shown_(start_) {}

Progress::~Progress() { clear(); }

void Progress::clear() const {
  if (terminal_) fmt::print(stderr, "\r\033[K");
}

void Progress::validated(double loss, std::optional<double> recalled) {
  validation_ = fmt::format(", validation {:.3f}", loss);
  if (recalled) validation_ += fmt::format(", recalled {:.1f} %", 100 * *recalled);
}

void Progress::step(int64_t done, double loss, double tokens_per_second, bool measured) {
  if (!terminal_) {
    if (measured)
      log_info("{}: step {} of {}, loss {:.3f}{}, {:.0f} tokens/s", arm_, done - 1, steps_, loss,
               validation_, tokens_per_second);
    return;
  }
  const auto now = Clock::now();
  if (seconds(now - shown_) < kRedrawSeconds && done < steps_) return;
  shown_ = now;
  const int filled = steps_ == 0 ? kBarWidth : static_cast<int>(kBarWidth * done / steps_);
  const double rate = static_cast<double>(done - first_) / std::max(1e-9, seconds(now - start_));
  fmt::print(stderr, "\r\033[K{} [{:#<{}}{:.<{}}] {}/{}  loss {:.3f}{}  {:.0f} tokens/s  {} left",
             arm_, "", filled, "", kBarWidth - filled, done, steps_, loss, validation_,
             tokens_per_second,
             rate > 0 ? duration_text(static_cast<double>(steps_ - done) / rate) : "?");
  std::fflush(stderr);
}

Activity::Activity(std::string what)
    : what_(std::move(what)),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      shown_(start_) {
  show("");
}

Activity::~Activity() {
  if (terminal_) fmt::print(stderr, "\r\033[K");
}

void Activity::show(const std::string& more) const {
  if (!terminal_) return;
  fmt::print(stderr, "\r\033[K{} ...{}", what_, more);
  std::fflush(stderr);
}

void Activity::at(int64_t done, int64_t of) {
  const auto now = Clock::now();
  if (!terminal_ || done == 0 || seconds(now - shown_) < kRedrawSeconds) return;
  shown_ = now;
  const double left =
      seconds(now - start_) * static_cast<double>(of - done) / static_cast<double>(done);
  show(fmt::format(" {} of {}, {} left", done, of, duration_text(left)));
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string duration_text(double seconds) {
  const auto all = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  const int64_t hours = all / 3600, minutes = all / 60 % 60;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, all % 60);
  return fmt::format("{}:{:02}", minutes, all % 60);
}

}  // namespace weir
