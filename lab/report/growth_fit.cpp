#include "lab/report/growth_fit.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <unsupported/Eigen/NonLinearOptimization>
#include <unsupported/Eigen/NumericalDiff>

#include "lab/measure/nonfinite.h"

namespace weir {

namespace {

using Eigen::VectorXd;

constexpr int64_t kFewestPoints = 6;
constexpr Eigen::Index kParameters = 5;

struct Points {
  VectorXd step, value;
};

/// Where the logarithms of lambda, gamma and t0 are sought. Without bounds the fit of a late rise
/// runs off to an endless lambda and A, whose product stays: a curve of another kind, with
/// parameters that mean nothing.
struct Bounds {
  Eigen::Vector3d low, high;

  explicit Bounds(double last_step) {
    low << std::log(1e-4), std::log(1e-3 / last_step), std::log(1e-3);
    high << std::log(10.0), std::log(1e4 / last_step), std::log(1e2);
  }
  /// Any three numbers to the parameters between the bounds.
  VectorXd parameters(const VectorXd& free) const {
    const Eigen::Array3d part = 1 / (1 + (-free.array()).exp());
    return (low.array() + (high - low).array() * part).exp().matrix();
  }
  VectorXd free(double lambda, double gamma, double t0) const {
    const Eigen::Array3d log = Eigen::Array3d(lambda, gamma, t0).log();
    const Eigen::Array3d part = ((log - low.array()) / (high - low).array()).max(0.01).min(0.99);
    return (part / (1 - part)).log().matrix();
  }
  /// Whether one of them has gone to an end of its range.
  bool touched_by(const VectorXd& free) const { return free.cwiseAbs().maxCoeff() > 6; }
};

VectorXd basis(const Points& points, double lambda, double gamma, double t0) {
  const Eigen::ArrayXd x = gamma * points.step.array() + t0;
  return ((-lambda * x).exp() * x.log()).matrix();
}

// A and K of the best line through (basis, value).
std::pair<double, double> line(const VectorXd& b, const VectorXd& y) {
  const double centre = b.mean(), middle = y.mean();
  const double variance = (b.array() - centre).square().sum();
  if (!(variance > 0) || !std::isfinite(variance)) return {0, middle};
  const double slope = ((b.array() - centre) * (y.array() - middle)).sum() / variance;
  return {slope, middle - slope * centre};
}

// Residuals as a function of three free numbers, for Eigen's solver.
struct Residuals {
  using Scalar = double;
  using InputType = VectorXd;
  using ValueType = VectorXd;
  using JacobianType = Eigen::MatrixXd;
  enum { InputsAtCompileTime = Eigen::Dynamic, ValuesAtCompileTime = Eigen::Dynamic };

  const Points& points;
  const Bounds& bounds;
  int inputs() const { return 3; }
  int values() const { return static_cast<int>(points.step.size()); }
  int operator()(const VectorXd& free, VectorXd& residuals) const {
    const VectorXd p = bounds.parameters(free);
    const VectorXd b = basis(points, p[0], p[1], p[2]);
    const auto [a, k] = line(b, points.value);
    residuals = (a * b).array() + k - points.value.array();
    if (!residuals.allFinite()) residuals.setConstant(1e150);
    return 0;
  }
};

// Standard errors: the roots of the diagonal of s^2 (J^T J)^-1, J by all five parameters.
void errors_of(GrowthFit& fit, const Points& points) {
  const Eigen::Index n = points.step.size();
  Eigen::MatrixXd jacobian(n, kParameters);
  for (Eigen::Index i = 0; i < n; ++i) {
    const double t = points.step[i], x = fit.gamma * t + fit.t0;
    const double decay = std::exp(-fit.lambda * x), log_x = std::log(x);
    const double by_x = fit.amplitude * decay * (1 / x - fit.lambda * log_x);
    jacobian.row(i) << decay * log_x, -fit.amplitude * x * decay * log_x, by_x * t, by_x, 1;
  }
  // Columns of one size, so that the rank does not depend on the units of a parameter.
  const VectorXd sizes = jacobian.colwise().norm();
  if (!jacobian.allFinite() || !(sizes.minCoeff() > 0) || n <= kParameters) return;
  const Eigen::MatrixXd scaled = jacobian * sizes.cwiseInverse().asDiagonal();
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(scaled, Eigen::ComputeThinV);
  const VectorXd& singular = svd.singularValues();
  if (singular.minCoeff() < 1e-10 * singular.maxCoeff()) return;
  const double variance =
      fit.rmse * fit.rmse * static_cast<double>(n) / static_cast<double>(n - kParameters);
  const Eigen::MatrixXd v = svd.matrixV() * singular.cwiseInverse().asDiagonal();
  for (Eigen::Index p = 0; p < kParameters; ++p)
    fit.standard_error[p] = std::sqrt(variance) * v.row(p).norm() / sizes[p];
}

// The extremum of exp(-lambda x) ln x is where lambda x ln x = 1, which grows in x > 1.
double peak_of(const GrowthFit& fit) {
  double low = 1, high = 2;
  while (fit.lambda * high * std::log(high) < 1 && high < 1e300) high *= 2;
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    (fit.lambda * middle * std::log(middle) < 1 ? low : high) = middle;
  }
  const double step = (low - fit.t0) / fit.gamma;
  return step >= 0 && std::isfinite(step) ? step : kNaN;
}

Points finite_points(std::span<const int64_t> steps, std::span<const double> values) {
  std::vector<double> x, y;
  for (size_t i = 0; i < std::min(steps.size(), values.size()); ++i) {
    if (!std::isfinite(values[i])) continue;
    x.push_back(static_cast<double>(steps[i]));
    y.push_back(values[i]);
  }
  const auto n = static_cast<Eigen::Index>(x.size());
  return {Eigen::Map<VectorXd>(x.data(), n), Eigen::Map<VectorXd>(y.data(), n)};
}

// The best of the minima that the solver reaches from a grid over the scales of the steps.
VectorXd best_parameters(const Points& points, const Bounds& bounds) {
  using Differences = Eigen::NumericalDiff<Residuals, Eigen::Central>;
  const double last = std::max(1.0, points.step.maxCoeff());
  VectorXd best;
  double least = std::numeric_limits<double>::infinity();
  for (double lambda : {0.01, 0.1, 0.5, 2.0})
    for (double x_at_end : {0.5, 2.0, 10.0, 50.0, 500.0})
      for (double t0 : {0.05, 0.5, 1.0, 3.0}) {
        VectorXd p = bounds.free(lambda, x_at_end / last, t0);
        Differences function(Residuals{points, bounds});
        Eigen::LevenbergMarquardt<Differences> solver(function);
        solver.parameters.maxfev = 2000;
        solver.parameters.ftol = solver.parameters.xtol = 1e-12;
        solver.minimize(p);
        VectorXd residuals;
        function(p, residuals);
        const double size = residuals.squaredNorm();
        // A hair better is the same minimum: the first start keeps it.
        if (best.size() == 0 || size < least * (1 - 1e-9)) {
          least = size;
          best = p;
        }
      }
  return best;
}

}  // namespace

GrowthFit fit_growth(std::span<const int64_t> steps, std::span<const double> values) {
  GrowthFit fit;
  const Points points = finite_points(steps, values);
  fit.points = points.step.size();
  if (fit.points < kFewestPoints) return fit;
  const Bounds bounds(std::max(1.0, points.step.maxCoeff()));
  const VectorXd free = best_parameters(points, bounds), p = bounds.parameters(free);
  fit.at_bound = bounds.touched_by(free);
  fit.lambda = p[0];
  fit.gamma = p[1];
  fit.t0 = p[2];
  const VectorXd b = basis(points, fit.lambda, fit.gamma, fit.t0);
  std::tie(fit.amplitude, fit.level) = line(b, points.value);
  const VectorXd residuals =
      ((fit.amplitude * b).array() + fit.level - points.value.array()).matrix();
  const auto n = static_cast<double>(fit.points);
  fit.rmse = std::sqrt(residuals.squaredNorm() / n);
  const double variance = (points.value.array() - points.value.mean()).square().sum();
  fit.r_squared = variance > 0 ? 1 - residuals.squaredNorm() / variance : kNaN;
  fit.peak_step = peak_of(fit);
  if (!fit.at_bound) errors_of(fit, points);
  return fit;
}

double growth_value(const GrowthFit& fit, double step) {
  const double x = fit.gamma * step + fit.t0;
  return fit.amplitude * std::exp(-fit.lambda * x) * std::log(x) + fit.level;
}

std::vector<GrowthFit> growth_of(const ReportArm& arm) {
  constexpr const char* key = "resid_post_max_abs";
  std::vector<GrowthFit> fits;
  if (arm.measured.empty() || !arm.measured.front().by_layer.contains(key)) return fits;
  std::vector<int64_t> steps;
  for (const MeasuredStep& step : arm.measured) steps.push_back(step.step);
  for (size_t l = 0; l < arm.measured.front().by_layer.at(key).size(); ++l) {
    std::vector<double> values;
    for (const MeasuredStep& step : arm.measured) values.push_back(step.by_layer.at(key).at(l));
    fits.push_back(fit_growth(steps, values));
  }
  return fits;
}

nlohmann::ordered_json growth_json(const GrowthFit& fit) {
  nlohmann::ordered_json errors = nlohmann::ordered_json::object();
  const char* names[] = {"A", "lambda", "gamma", "t0", "K"};
  for (size_t p = 0; p < 5; ++p) errors[names[p]] = json_number(fit.standard_error[p]);
  return {{"points", fit.points},
          {"A", json_number(fit.amplitude)},
          {"lambda", json_number(fit.lambda)},
          {"gamma", json_number(fit.gamma)},
          {"t0", json_number(fit.t0)},
          {"K", json_number(fit.level)},
          {"standard_errors", std::move(errors)},
          {"at_bound", fit.at_bound},
          {"rmse", json_number(fit.rmse)},
          {"r_squared", json_number(fit.r_squared)},
          {"peak_step", json_number(fit.peak_step)}};
}

}  // namespace weir
