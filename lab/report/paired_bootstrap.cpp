#include "lab/report/paired_bootstrap.h"

#include <cmath>
#include <limits>

#include "lab/measure/statistics.h"
#include "runtime/random.h"

namespace weir {

PairedInterval paired_interval(std::span<const double> differences,
                               const BootstrapSettings& settings) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const size_t n = differences.size();
  PairedInterval result{median({differences.begin(), differences.end()}), none, none};
  if (n < 2 || std::isnan(result.median)) return result;
  std::vector<double> medians, drawn(n);
  medians.reserve(static_cast<size_t>(settings.resamples));
  for (int64_t r = 0; r < settings.resamples; ++r) {
    Random random(settings.seed, static_cast<uint64_t>(r));
    for (double& value : drawn) value = differences[random.below(n)];
    medians.push_back(median(drawn));
  }
  const double tail = (1 - settings.confidence) / 2;
  result.low = quantile(medians, tail);
  result.high = quantile(std::move(medians), 1 - tail);
  return result;
}

double largest_coverage(size_t pairs) {
  return pairs == 0 ? 0 : 1 - std::exp2(1 - static_cast<double>(pairs));
}

size_t pairs_needed(double confidence) {
  size_t pairs = 1;
  while (largest_coverage(pairs) < confidence) ++pairs;
  return pairs;
}

Quartiles quartiles_of(const std::vector<double>& values) {
  return {quantile(values, 0.25), median(values), quantile(values, 0.75)};
}

}  // namespace weir
