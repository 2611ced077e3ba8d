#include "lab/measure/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace weir {
namespace {

constexpr double kNotANumber = std::numeric_limits<double>::quiet_NaN();

bool has_nan(std::span<const double> values) {
  return std::any_of(values.begin(), values.end(), [](double v) { return std::isnan(v); });
}

}  // namespace

double mean(std::span<const double> values) {
  double sum = 0;
  for (double value : values) sum += value;
  return values.empty() ? kNotANumber : sum / static_cast<double>(values.size());
}

double median(std::vector<double> values) { return quantile(std::move(values), 0.5); }

double quantile(std::vector<double> values, double q) {
  if (values.empty() || has_nan(values)) return kNotANumber;
  double rank = q * static_cast<double>(values.size() - 1);
  auto low = static_cast<ptrdiff_t>(std::floor(rank));
  auto at = values.begin() + low;
  std::nth_element(values.begin(), at, values.end());
  double fraction = rank - static_cast<double>(low), lower = *at;
  if (fraction == 0) return lower;
  double upper = *std::min_element(at + 1, values.end());
  return lower + (upper - lower) * fraction;
}

double largest(std::span<const double> values) {
  if (values.empty() || has_nan(values)) return kNotANumber;
  return *std::max_element(values.begin(), values.end());
}

double excess_kurtosis(std::span<const double> values) {
  double centre = mean(values), second = 0, fourth = 0;
  for (double value : values) {
    double square = (value - centre) * (value - centre);
    second += square;
    fourth += square * square;
  }
  auto n = static_cast<double>(values.size());
  return ratio(fourth / n, (second / n) * (second / n)) - 3;
}

double ratio(double numerator, double denominator) {
  return denominator == 0 ? kNotANumber : numerator / denominator;
}

}  // namespace weir
