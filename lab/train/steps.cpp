// What a run does at which step: measuring, and its learning rate.
#include <cmath>
#include <numbers>
#include <set>

#include "lab/train/config.h"

namespace weir {

std::vector<int64_t> measured_steps(const RunConfig& config) {
  std::set<int64_t> steps(config.measure.steps.begin(), config.measure.steps.end());
  if (steps.empty()) {
    steps.insert(0);
    for (int64_t step = 1; step <= 512; step *= 2) steps.insert(step);
    for (int64_t step = config.measure.every; step <= config.steps; step += config.measure.every)
      if (step > 512) steps.insert(step);
    steps.insert(config.steps);
  }
  std::vector<int64_t> result;
  for (int64_t step : steps)
    if (step <= config.steps) result.push_back(step);
  return result;
}

double learning_rate(const OptimizerConfig& optimizer, int64_t step, int64_t steps) {
  if (step < optimizer.warmup)
    return optimizer.rate * static_cast<double>(step + 1) / static_cast<double>(optimizer.warmup);
  if (optimizer.schedule == "constant") return optimizer.rate;
  const bool again = optimizer.restart > 0 && step >= optimizer.restart;
  // From the peak where warm-up ends, or from the restart, to the final rate at the last step.
  const int64_t first = again ? optimizer.restart : optimizer.warmup;
  const int64_t last = (optimizer.restart > 0 && !again ? optimizer.restart : steps) - 1;
  const double progress =
      step >= last ? 1.0 : static_cast<double>(step - first) / static_cast<double>(last - first);
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * progress));
  const double peak = again ? optimizer.restart_rate : 1;
  return optimizer.rate * (optimizer.final_rate + (peak - optimizer.final_rate) * cosine);
}

}  // namespace weir
