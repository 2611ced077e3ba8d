#pragma once
// Points and weights for expectations over independent standard normal numbers.
#include <Eigen/Core>
#include <cstdint>

namespace weir {

/// E f(z) for z ~ N(0, I) as sum_i weights[i] f(points column i). The points are fixed, so what is
/// computed with a rule is a smooth function of its parameters and the same at each call. Rules are
/// symmetric under z -> -z, so odd parts of f vanish exactly.
struct GaussianRule {
  Eigen::MatrixXd points;   ///< [dimension, n], a column each
  Eigen::VectorXd weights;  ///< [n], with the sum 1
  /// Independent randomisations: equal runs of columns, each with the same part of the weights. The
  /// spread of their means is the error. One for Gauss-Hermite, which states none.
  int64_t groups = 1;

  int64_t dimension() const { return points.rows(); }
};

struct RuleSettings {
  enum class Method {
    kAutomatic,  ///< Gauss-Hermite where at least 14 nodes a dimension are allowed
    kHermite,
    kLattice
  };
  Method method = Method::kAutomatic;
  int64_t hermite_points = 10000;  ///< at most; at most 48 nodes a dimension
  int64_t lattice_points = 2048;   ///< of a shift; the largest prime up to it, each point with -z
  int64_t shifts = 4;
  uint64_t seed = 1;  ///< of the shifts
};

/// Tensor product of Gauss-Hermite rules with `nodes` nodes (Golub and Welsch, Math. Comp. 23,
/// 1969), without points whose weight is below 1e-15. Exact for polynomials of degree 2 nodes - 1
/// in each variable. Accurate for functions that are smooth on the scale of 1 / sqrt(nodes): scores
/// of a standard deviation up to about 3.
GaussianRule gauss_hermite(int64_t dimension, int64_t nodes);

/// Randomised quasi-Monte Carlo: a rank-1 lattice of n points (a prime), moved by `shifts` random
/// shifts (Cranley and Patterson, SIAM J. Numer. Anal. 13, 1976), folded by the tent transformation
/// (Hickernell, 2002), mapped by the normal quantile, and mirrored. The generating vector is built
/// component by component for the worst-case error of the Korobov space with alpha = 2 and weights
/// 1 / (2 sqrt(j)) of coordinate j (Sloan and Reztsov, Math. Comp. 71, 2002). The same bits for the
/// same arguments.
GaussianRule shifted_lattice(int64_t dimension, int64_t points, int64_t shifts, uint64_t seed);

/// The rule that `settings` ask for. UserError that lists all mistakes.
GaussianRule gaussian_rule(int64_t dimension, const RuleSettings& settings);

/// x with P(z < x) = p for z ~ N(0, 1), to rounding; p in (0, 1).
double normal_quantile(double p);

/// A number with its standard error; the error is NaN where none is known.
struct Estimate {
  double value, error;
};

/// The mean of independent estimates with its standard error; NaN for a single one.
Estimate mean_of(const Eigen::VectorXd& estimates);

}  // namespace weir
