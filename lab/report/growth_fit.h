#pragma once
// How the largest activation of a layer grows in training: the curve of "Hidden Dynamics of Massive
// Activations in Transformer Training" (Gallego-Feliciano et al., arXiv 2508.03616), an
// exponentially modulated logarithm of the step t with five parameters:
//   f(t) = A exp(-lambda x) ln(x) + K,   x = gamma t + t0
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "lab/report/report_data.h"

namespace weir {

struct GrowthFit {
  int64_t points = 0;  ///< finite ones; fewer than six, one more than parameters, are not fitted
  double amplitude = kNaN;  ///< A
  double lambda = kNaN;     ///< decay; positive
  double gamma = kNaN;      ///< of the step; positive
  double t0 = kNaN;         ///< x at step 0; positive
  double level = kNaN;      ///< K: where the curve goes in the end
  /// Whether lambda, gamma or t0 is at an end of its range, so that the parameters mean little.
  bool at_bound = false;
  double rmse = kNaN;       ///< root of the mean squared residual, in units of the activation
  double r_squared = kNaN;  ///< share of the variance that the curve explains; NaN of a constant
  /// Step of the curve's extremum, where lambda x ln(x) = 1; NaN before step 0.
  double peak_step = kNaN;
  /// Standard errors of A, lambda, gamma, t0 and K from the curvature at the minimum, NaN where the
  /// points do not determine them.
  double standard_error[5] = {kNaN, kNaN, kNaN, kNaN, kNaN};
  bool fitted() const { return points >= 6 && rmse == rmse; }
};

/// Least squares over all points with equal weights. A and K follow from the others exactly (they
/// enter linearly); lambda, gamma and t0 are sought as logarithms by Levenberg and Marquardt's
/// method from a fixed grid of starts, of which the best minimum is kept. The same points give the
/// same fit.
GrowthFit fit_growth(std::span<const int64_t> steps, std::span<const double> values);
double growth_value(const GrowthFit& fit, double step);

/// Of "resid_post_max_abs", the largest |x| behind a layer, by layer.
std::vector<GrowthFit> growth_of(const ReportArm& arm);

/// {"points", "A", "lambda", "gamma", "t0", "K", "standard_errors", "at_bound", "rmse",
/// "r_squared", "peak_step"}.
nlohmann::ordered_json growth_json(const GrowthFit& fit);

}  // namespace weir
