#pragma once
// The limit of many dimensions of the single-location model (arXiv 2603.03993): order parameters,
// risk, and the averages of which the flow is made.
//
// Given the hidden token e and theta, the scores of the heads at token l are Gaussian in R^H with
// covariance r, mean m theta at l = e and 0 elsewhere, independent between tokens. By symmetry e is
// token 0.
#include <Eigen/Core>
#include <cstdint>
#include <vector>

#include "lab/specialize/gaussian_rule.h"
#include "lab/specialize/head_activation.h"
#include "lab/specialize/signal_law.h"

namespace weir {

/// The experiment: how theta is drawn, L, and what the heads do.
struct LimitModel {
  SignalLaw law;
  int64_t tokens;
  HeadActivation activation;
};

/// What the limit depends on.
struct OrderParameters {
  Eigen::MatrixXd m;  ///< k_h . k*_f, [H, F]
  Eigen::MatrixXd r;  ///< k_h . k_h', [H, H]; may be singular
  Eigen::VectorXd b;  ///< biases, [H]; not read for softmax

  int64_t heads() const { return m.rows(); }
};

/// Of keys [H, D] and orthonormal hidden directions [F, D].
OrderParameters order_parameters(const Eigen::MatrixXd& keys, const Eigen::MatrixXd& directions,
                                 const Eigen::VectorXd& biases);
/// Of keys in the span of the hidden directions: r = m m^T.
OrderParameters spanned_parameters(const Eigen::MatrixXd& m, const Eigen::VectorXd& biases);
/// Bayes-softmax as the posterior: of a discrete law with P points, P heads with k_h = sum_f
/// theta^h_f k*_f and b_h = |k_h|^2 / 2 - log w_h. UserError for a Gaussian law.
OrderParameters planted_parameters(const SignalLaw& law);

/// The symmetric square root of r; eigenvalues below 0, which rounding makes, count as 0.
Eigen::MatrixXd symmetric_root(const Eigen::MatrixXd& r);

/// UserError that lists all mistakes: shapes that do not fit, no head, less than 2 tokens, numbers
/// that are not finite, an r that is not symmetric or not that of any keys with this m (r - m m^T
/// has an eigenvalue below 0).
void check_parameters(const LimitModel& model, const OrderParameters& at);

/// The limit loss of a predictor with these order parameters. Where r = m m^T and F < H the
/// integral is over F x L normal numbers, else over H x L (and F more for a Gaussian law). Checks
/// `at`.
Estimate limit_risk(const LimitModel& model, const OrderParameters& at,
                    const RuleSettings& settings);

/// E sum_l (a_l - p_l)^2, which is exactly the excess of the limit loss over the Bayes risk,
/// without the cancellation of their difference. For keys in the span of the hidden directions: of
/// `at` only m and b are read.
Estimate excess_risk(const LimitModel& model, const OrderParameters& at,
                     const RuleSettings& settings);

/// Averages over theta and scores n_l = A g_l + [l = 0] m theta, with g_l ~ N(0, I_d), A [H, d]. Of
/// c_hl = dg / dchi_hl and what follows from it.
struct LimitAverages {
  double loss = 0;             ///< E g
  Eigen::MatrixXd signal;      ///< E c_h0 theta_f, [H, F]
  Eigen::MatrixXd curvature;   ///< E sum_l d c_hl / d chi_h'l, [H, H], symmetric
  Eigen::MatrixXd step_noise;  ///< E sum_l c_hl c_h'l, [H, H]
  Eigen::VectorXd by_bias;     ///< E dg / db_h, [H]
  /// E sum_l c_hl g_lj, [H, d]: with A and `signal` the exact derivative of the rule's own risk.
  Eigen::MatrixXd by_factor;
};

/// How much of the averages is asked for; each includes the one before.
enum class AveragesUpTo { kLoss, kFirstDerivatives, kFlow };

/// One for each group of the rule. The rule has the dimension d x L, and F more for a Gaussian law.
std::vector<LimitAverages> limit_averages(const LimitModel& model, const Eigen::MatrixXd& m,
                                          const Eigen::MatrixXd& A, const Eigen::VectorXd& b,
                                          const GaussianRule& rule, AveragesUpTo part);
/// Their mean.
LimitAverages mean_averages(const std::vector<LimitAverages>& groups);

/// The rule for scores with d numbers a token. An automatic one is a lattice for laws with
/// strengths above 3: keys of that size make scores too steep for the nodes of Gauss-Hermite, and a
/// search for the least risk would find keys that suit the nodes.
GaussianRule score_rule(const LimitModel& model, int64_t d, const RuleSettings& settings);

}  // namespace weir
