#pragma once
// A line through points, with an interval for its slope.
#include <cstdint>
#include <span>

namespace weir {

struct LineFit {
  int64_t points = 0;  ///< finite ones, of which the fit is made
  double slope, intercept;
  double low, high;  ///< of the slope
  double r_squared;  ///< share of the variance of y that the line explains
};

/// Ordinary least squares of y on x, and Student's t-interval of the slope with `points` - 2
/// degrees of freedom: slope +- t sqrt(sum of squared residuals / ((points - 2) sum (x - mean)^2)).
/// It is the interval of a line with independent errors of one size; where points lie on a curve,
/// as those of a dial do, it says how well one power law describes the sweep. Points with a number
/// that is not finite are left out. Slope, intercept and R^2 are NaN for less than two different x,
/// the interval for less than three points.
LineFit fit_line(std::span<const double> x, std::span<const double> y, double confidence);
/// The same of the logarithms: y = exp(intercept) x^slope. Numbers that are not positive have none.
LineFit fit_power(std::span<const double> x, std::span<const double> y, double confidence);

/// The t for which Student's distribution has the probability `confidence` between -t and t.
double student_t(int64_t degrees, double confidence);

}  // namespace weir
