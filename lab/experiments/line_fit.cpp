#include "lab/experiments/line_fit.h"

#include <cmath>
#include <limits>
#include <vector>

#include "support/error.h"

namespace weir {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// The continued fraction of the incomplete beta function, by Lentz's method (Press et al.,
// Numerical Recipes, 3rd edition, section 6.4).
double beta_fraction(double a, double b, double x) {
  constexpr double tiny = 1e-300, enough = 1e-15;
  constexpr int most = 500;
  const auto kept = [](double value) { return std::abs(value) < tiny ? tiny : value; };
  double c = 1, d = 1 / kept(1 - (a + b) * x / (a + 1)), result = d;
  for (int m = 1; m <= most; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / kept(1 + even * d);
    c = kept(1 + even / c);
    result *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / kept(1 + odd * d);
    c = kept(1 + odd / c);
    result *= d * c;
    if (std::abs(d * c - 1) < enough) break;
  }
  return result;
}

// I_x(a, b).
double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

}  // namespace

double student_t(int64_t degrees, double confidence) {
  WEIR_CHECK(degrees >= 1 && confidence > 0 && confidence < 1, "t of {} and {}", degrees,
             confidence);
  const auto n = static_cast<double>(degrees);
  // The probability outside of -t .. t falls with t.
  const auto outside = [n](double t) { return incomplete_beta(n / 2, 0.5, n / (n + t * t)); };
  double low = 0, high = 1;
  while (outside(high) > 1 - confidence) high *= 2;
  for (int i = 0; i < 200 && high - low > 1e-13 * high; ++i) {
    const double middle = (low + high) / 2;
    (outside(middle) > 1 - confidence ? low : high) = middle;
  }
  return (low + high) / 2;
}

LineFit fit_line(std::span<const double> x, std::span<const double> y, double confidence) {
  WEIR_CHECK(x.size() == y.size(), "{} x and {} y", x.size(), y.size());
  LineFit fit{.slope = kNaN, .intercept = kNaN, .low = kNaN, .high = kNaN, .r_squared = kNaN};
  std::vector<double> xs, ys;
  for (size_t i = 0; i < x.size(); ++i)
    if (std::isfinite(x[i]) && std::isfinite(y[i])) xs.push_back(x[i]), ys.push_back(y[i]);
  fit.points = static_cast<int64_t>(xs.size());
  if (fit.points < 2) return fit;
  const auto n = static_cast<double>(fit.points);
  double mean_x = 0, mean_y = 0, xx = 0, xy = 0, yy = 0;
  for (size_t i = 0; i < xs.size(); ++i) mean_x += xs[i] / n, mean_y += ys[i] / n;
  for (size_t i = 0; i < xs.size(); ++i) {
    const double dx = xs[i] - mean_x, dy = ys[i] - mean_y;
    xx += dx * dx, xy += dx * dy, yy += dy * dy;
  }
  // Equal x differ by the rounding of their mean.
  if (xx <= n * std::pow(1e-14 * std::abs(mean_x), 2)) return fit;
  fit.slope = xy / xx;
  fit.intercept = mean_y - fit.slope * mean_x;
  double residual = 0;
  for (size_t i = 0; i < xs.size(); ++i)
    residual += std::pow(ys[i] - fit.intercept - fit.slope * xs[i], 2);
  fit.r_squared = yy > 0 ? 1 - residual / yy : kNaN;
  if (fit.points < 3) return fit;
  const double half = student_t(fit.points - 2, confidence) * std::sqrt(residual / ((n - 2) * xx));
  fit.low = fit.slope - half;
  fit.high = fit.slope + half;
  return fit;
}

LineFit fit_power(std::span<const double> x, std::span<const double> y, double confidence) {
  std::vector<double> log_x, log_y;
  const auto log = [](double value) { return value > 0 ? std::log(value) : kNaN; };
  for (double value : x) log_x.push_back(log(value));
  for (double value : y) log_y.push_back(log(value));
  return fit_line(log_x, log_y, confidence);
}

}  // namespace weir
