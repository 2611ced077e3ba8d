#pragma once
// How every measurement of this folder is taken: in short rounds, each beside the machine's peak
// measured right before and right after it, for longer where the work is longer. Readings are never
// thrown away: the median of the rounds' shares says what to expect, the best rate over the best
// peak what is possible.
#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace weir::bench {

/// The middle one; 0 for none.
double median(std::vector<double> values);

/// Rates in operations a second.
struct Round {
  double rate = 0, peak_before = 0, peak_after = 0;
  double share() const { return 2 * rate / (peak_before + peak_after); }
};

class Rounds {
 public:
  void add(const Round& round) { rounds_.push_back(round); }
  bool empty() const { return rounds_.empty(); }
  double median_share() const;
  double best_share() const;  ///< the highest rate over the highest peak of all rounds
  double best_peak() const;

 private:
  std::vector<Round> rounds_;
};

/// The rate over a stretch of time: `reading` says the rate at which it did a fixed amount of work,
/// and is called until `seconds` have passed, at least once. What takes long lives through good and
/// bad moments of the machine, so the peak beside it must be a mean over both kinds, too: the best
/// or the middle one of many readings is a good moment's.
double mean_rate(double seconds, const std::function<double()>& reading);

/// Measures `peak`, `rate`, `peak`, `rate` ... and `peak` again: `count` rounds.
Rounds measure_rounds(int count, const std::function<double()>& peak,
                      const std::function<double()>& rate);

/// In seconds: wall time, the calling thread's own processor time, which others disturb little, and
/// that of all threads of the process, waiting in a loop included.
double wall_seconds(const std::function<void()>& work);
double own_seconds(const std::function<void()>& work);
double process_seconds(const std::function<void()>& work);

/// For every line of stdin one line of JSON on stdout: what `answer` makes of its words. Ends with
/// the input, or at the line "quit". That is how bench/run has several programs take turns.
void serve(const std::function<nlohmann::json(const std::vector<std::string>&)>& answer);
/// One line of JSON on stdout, at once.
void say(const nlohmann::json& line);

}  // namespace weir::bench
