#pragma once
// Order statistics and moments with the conventions of the metric record: NumPy's defaults, and NaN
// for what an empty set or a zero denominator leaves undefined. A NaN among the values makes the
// result NaN.
#include <span>
#include <vector>

namespace weir {

double mean(std::span<const double> values);
/// The mean of the two middle values of an even count.
double median(std::vector<double> values);
/// Linear between the two nearest ranks; `q` in [0, 1].
double quantile(std::vector<double> values, double q);
double largest(std::span<const double> values);
/// Excess kurtosis by population moments.
double excess_kurtosis(std::span<const double> values);
/// NaN for a zero denominator.
double ratio(double numerator, double denominator);

}  // namespace weir
