#include "lab/specialize/gaussian_rule.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "runtime/random.h"
#include "support/error.h"

namespace weir {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kSmallestWeight = 1e-15;
constexpr int64_t kFewestNodes = 14, kMostNodes = 48, kMostDimensions = 4096;
constexpr int64_t kFewestPoints = 16, kMostPoints = 1 << 16;

struct Nodes {
  Eigen::VectorXd places, weights;
};

// The nodes are the eigenvalues of the Jacobi matrix of the recurrence He_{k+1} = x He_k - k
// He_{k-1}; the weights are the squares of the first components of its eigenvectors.
Nodes hermite_nodes(int64_t nodes) {
  const Eigen::VectorXd diagonal = Eigen::VectorXd::Zero(nodes);
  Eigen::VectorXd beside(nodes - 1);
  for (Eigen::Index k = 0; k + 1 < nodes; ++k) beside[k] = std::sqrt(static_cast<double>(k + 1));
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver;
  solver.computeFromTridiagonal(diagonal, beside);
  Nodes result{solver.eigenvalues(), solver.eigenvectors().row(0).array().square()};
  // Symmetric up to rounding; exactly so from here on.
  result.places = (result.places - result.places.reverse()).eval() / 2;
  result.weights = (result.weights + result.weights.reverse()).eval() / 2;
  result.weights /= result.weights.sum();
  return result;
}

bool is_prime(int64_t n) {
  for (int64_t d = 2; d * d <= n; ++d)
    if (n % d == 0) return false;
  return n > 1;
}

// Component by component: each component is the one that, behind those before it, makes the mean of
// the products 1 + weight_j 2 pi^2 B_2({i z_j / n}) over the points least. Since B_2(x) = B_2(1 -
// x), half of the candidates and half of the points are enough.
std::vector<int64_t> lattice_vector(int64_t dimension, int64_t n) {
  const int64_t half = (n - 1) / 2;
  std::vector<double> kernel(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const double x = static_cast<double>(i) / static_cast<double>(n);
    kernel[static_cast<size_t>(i)] =
        2 * std::numbers::pi * std::numbers::pi * (x * x - x + 1.0 / 6);
  }
  std::vector<double> products(static_cast<size_t>(half), 1.0);
  std::vector<int64_t> vector;
  for (int64_t j = 0; j < dimension; ++j) {
    int64_t best = 1;
    double least = std::numeric_limits<double>::infinity();
    for (int64_t z = 1; z <= (j == 0 ? 1 : half); ++z) {
      double sum = 0;
      int64_t place = 0;
      for (double product : products) {
        place += z;
        if (place >= n) place -= n;
        sum += product * kernel[static_cast<size_t>(place)];
      }
      if (sum < least) {
        least = sum;
        best = z;
      }
    }
    vector.push_back(best);
    const double weight = 0.5 / std::sqrt(static_cast<double>(j + 1));
    for (int64_t i = 1; i <= half; ++i)
      products[static_cast<size_t>(i - 1)] *=
          1 + weight * kernel[static_cast<size_t>(i * best % n)];
  }
  return vector;
}

void check_settings(int64_t dimension, const RuleSettings& settings) {
  Problems problems("integration rule");
  if (dimension < 1 || dimension > kMostDimensions)
    problems.add(
        fmt::format("an expectation over {} normal numbers is asked for; 1 to {} are "
                    "possible (heads x tokens, with a Gaussian law also directions)",
                    dimension, kMostDimensions));
  if (settings.lattice_points < kFewestPoints || settings.lattice_points > kMostPoints)
    problems.add(fmt::format("lattice_points is {}; {} to {} are possible", settings.lattice_points,
                             kFewestPoints, kMostPoints));
  if (settings.shifts < 2 || settings.shifts > 1024)
    problems.add(fmt::format("shifts is {}; 2 to 1024 are possible", settings.shifts));
  if (settings.hermite_points < 1 || settings.hermite_points > 100'000'000)
    problems.add(
        fmt::format("hermite_points is {}; 1 to 100000000 are possible", settings.hermite_points));
  problems.raise();
}

}  // namespace

GaussianRule gauss_hermite(int64_t dimension, int64_t nodes) {
  const Nodes one = hermite_nodes(nodes);
  std::vector<double> places, weights;
  std::vector<Eigen::Index> at(static_cast<size_t>(dimension), 0);
  while (true) {
    double weight = 1;
    for (Eigen::Index i : at) weight *= one.weights[i];
    if (weight >= kSmallestWeight) {
      weights.push_back(weight);
      for (Eigen::Index i : at) places.push_back(one.places[i]);
    }
    size_t j = 0;
    while (j < at.size() && ++at[j] == nodes) at[j++] = 0;
    if (j == at.size()) break;
  }
  GaussianRule rule;
  const auto n = static_cast<Eigen::Index>(weights.size());
  rule.points = Eigen::Map<const Eigen::MatrixXd>(places.data(), dimension, n);
  rule.weights = Eigen::Map<const Eigen::VectorXd>(weights.data(), n);
  rule.weights /= rule.weights.sum();
  return rule;
}

GaussianRule shifted_lattice(int64_t dimension, int64_t points, int64_t shifts, uint64_t seed) {
  int64_t n = std::max<int64_t>(points, 3);
  while (!is_prime(n)) --n;
  const std::vector<int64_t> vector = lattice_vector(dimension, n);
  GaussianRule rule;
  rule.groups = shifts;
  rule.points.resize(dimension, 2 * n * shifts);
  rule.weights.setConstant(2 * n * shifts, 1 / static_cast<double>(2 * n * shifts));
  for (int64_t s = 0; s < shifts; ++s) {
    Random random(seed, static_cast<uint64_t>(s));
    for (int64_t j = 0; j < dimension; ++j) {
      const double shift = random.uniform();
      for (int64_t i = 0; i < n; ++i) {
        const int64_t place = i * vector[static_cast<size_t>(j)] % n;
        double u = static_cast<double>(place) / static_cast<double>(n) + shift;
        u -= std::floor(u);
        u = std::clamp(1 - std::abs(2 * u - 1), 0x1p-54, 1 - 0x1p-53);
        const double z = normal_quantile(u);
        rule.points(j, 2 * (s * n + i)) = z;
        rule.points(j, 2 * (s * n + i) + 1) = -z;
      }
    }
  }
  return rule;
}

GaussianRule gaussian_rule(int64_t dimension, const RuleSettings& settings) {
  check_settings(dimension, settings);
  const double root =
      std::pow(static_cast<double>(settings.hermite_points), 1 / static_cast<double>(dimension));
  const int64_t nodes = std::min<int64_t>(kMostNodes, static_cast<int64_t>(root + 1e-9));
  switch (settings.method) {
    case RuleSettings::Method::kAutomatic:
      if (nodes >= kFewestNodes) return gauss_hermite(dimension, nodes);
      break;
    case RuleSettings::Method::kHermite:
      if (nodes < 2)
        user_error("integration rule",
                   "hermite_points is {}, less than 2 nodes in each of {} dimensions; more points "
                   "or the lattice are possible",
                   settings.hermite_points, dimension);
      return gauss_hermite(dimension, nodes);
    case RuleSettings::Method::kLattice:
      break;
  }
  return shifted_lattice(dimension, settings.lattice_points, settings.shifts, settings.seed);
}

// Acklam's rational approximation (relative error 1e-9), then one step of Halley's method.
double normal_quantile(double p) {
  constexpr double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                          1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
  constexpr double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                          6.680131188771972e+01, -1.328068155288572e+01};
  constexpr double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                          -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
  constexpr double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                          3.754408661907416e+00};
  // By symmetry the lower half, where p keeps its digits.
  if (p > 0.5) return -normal_quantile(1 - p);
  double x = 0;
  if (p < 0.02425) {
    const double q = std::sqrt(-2 * std::log(p));
    x = (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
        ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
  } else {
    const double q = p - 0.5, r = q * q;
    x = (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
        (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
  }
  const double error = 0.5 * std::erfc(-x / std::numbers::sqrt2) - p;
  const double step = error * std::sqrt(2 * std::numbers::pi) * std::exp(x * x / 2);
  return x - step / (1 + x * step / 2);
}

Estimate mean_of(const Eigen::VectorXd& estimates) {
  const auto n = static_cast<double>(estimates.size());
  const double mean = estimates.mean();
  if (estimates.size() < 2) return {mean, kNaN};
  const double variance = (estimates.array() - mean).square().sum() / (n - 1);
  return {mean, std::sqrt(variance / n)};
}

}  // namespace weir
