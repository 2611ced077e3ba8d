#include "bench/rounds.h"

#include <time.h>

#include <iostream>

#include "support/text.h"

namespace weir::bench {
namespace {

double clock_seconds(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double seconds_of(clockid_t clock, const std::function<void()>& work) {
  const double start = clock_seconds(clock);
  work();
  return clock_seconds(clock) - start;
}

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double Rounds::median_share() const {
  std::vector<double> shares;
  for (const Round& round : rounds_) shares.push_back(round.share());
  return median(std::move(shares));
}

double Rounds::best_peak() const {
  double peak = 0;
  for (const Round& round : rounds_) peak = std::max({peak, round.peak_before, round.peak_after});
  return peak;
}

double Rounds::best_share() const {
  double rate = 0;
  for (const Round& round : rounds_) rate = std::max(rate, round.rate);
  return rounds_.empty() ? 0 : rate / best_peak();
}

double mean_rate(double seconds, const std::function<double()>& reading) {
  double passed = 0, inverse = 0;
  int count = 0;
  do {
    passed += wall_seconds([&] { inverse += 1 / reading(); });
    ++count;
  } while (passed < seconds);
  return count / inverse;
}

Rounds measure_rounds(int count, const std::function<double()>& peak,
                      const std::function<double()>& rate) {
  Rounds rounds;
  double before = peak();
  for (int i = 0; i < count; ++i) {
    const double reached = rate(), after = peak();
    rounds.add({reached, before, after});
    before = after;
  }
  return rounds;
}

double wall_seconds(const std::function<void()>& work) { return seconds_of(CLOCK_MONOTONIC, work); }
double own_seconds(const std::function<void()>& work) {
  return seconds_of(CLOCK_THREAD_CPUTIME_ID, work);
}
double process_seconds(const std::function<void()>& work) {
  return seconds_of(CLOCK_PROCESS_CPUTIME_ID, work);
}

void serve(const std::function<nlohmann::json(const std::vector<std::string>&)>& answer) {
  for (std::string line; std::getline(std::cin, line) && line != "quit";)
    say(answer(split(line, ' ')));
}

void say(const nlohmann::json& line) { std::cout << line.dump() << '\n' << std::flush; }

}  // namespace weir::bench
