#pragma once
// What a person sees while something goes on: a bar on a terminal; of a run, a line a measured step
// elsewhere.
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace weir {

class Progress {
 public:
  /// On stderr; `first` is the step that the run starts or resumes at.
  Progress(std::string arm, int64_t first, int64_t steps);
  ~Progress();

  /// The validation loss, and share of targets recalled, that are shown from now on, before any
  /// step with them.
  void validated(double loss, std::optional<double> recalled);
  void step(int64_t done, double loss, double tokens_per_second, bool measured);

 private:
  void clear() const;

  std::string arm_;
  int64_t first_, steps_;
  std::string validation_;
  bool terminal_;
  std::chrono::steady_clock::time_point start_, shown_;
};

/// What is going on, on one line of a terminal while it lives; nothing elsewhere.
class Activity {
 public:
  explicit Activity(std::string what);
  ~Activity();
  Activity(const Activity&) = delete;
  Activity& operator=(const Activity&) = delete;

  /// Of work whose size is known.
  void at(int64_t done, int64_t of);

 private:
  void show(const std::string& more) const;

  std::string what_;
  bool terminal_;
  std::chrono::steady_clock::time_point start_, shown_;
};

double seconds_since(std::chrono::steady_clock::time_point start);
/// "0:07", "1:02:03".
std::string duration_text(double seconds);

}  // namespace weir
