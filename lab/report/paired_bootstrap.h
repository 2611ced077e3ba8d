#pragma once
// The interval of a paired difference by resampling seeds, and what it is worth with few of them.
#include <cstdint>
#include <span>
#include <vector>

namespace weir {

struct BootstrapSettings {
  double confidence = 0.95;
  int64_t resamples = 10'000;
  uint64_t seed = 1;
};

struct PairedInterval {
  double median;     ///< of the differences
  double low, high;  ///< percentile interval; NaN for fewer than two pairs
};

/// Differences of pairs, one a seed. A resample draws as many of them as there are, with
/// replacement, and takes the median; the interval is between the (1 - confidence) / 2 and (1 +
/// confidence) / 2 quantiles of the resamples. Draw i of resample r is a function of the seed, r
/// and i alone (runtime/random.h: stream r), so the same pairs have the same interval everywhere,
/// and quantities with the same number of pairs are resampled alike. A difference that is no number
/// makes all NaN.
PairedInterval paired_interval(std::span<const double> differences,
                               const BootstrapSettings& settings);

/// No interval inside the range of n differences covers the median of their distribution with a
/// higher probability than 1 - 2^(1 - n): all n are on one side of it with probability 2^(1 - n).
double largest_coverage(size_t pairs);
/// The least number of pairs for which that is at least `confidence`: 6 for 0.95.
size_t pairs_needed(double confidence);

/// Median and quartiles, with NumPy's interpolation.
struct Quartiles {
  double low, median, high;
};
Quartiles quartiles_of(const std::vector<double>& values);

}  // namespace weir
