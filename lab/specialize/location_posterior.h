#pragma once
// What can be known of the hidden location in the single-location model (arXiv 2603.03993), and the
// risk of the predictor that uses it.
#include <Eigen/Core>
#include <cstdint>

#include "lab/specialize/gaussian_rule.h"
#include "lab/specialize/signal_law.h"

namespace weir {

/// The posterior p_l of the location, [L], from the projections y_fl = x_l . k*_f, [F, L]:
///   p_l = E_theta exp(x_l . u - |u|^2 / 2) / sum_l' of the same, u = sum_f theta_f k*_f.
/// The limit loss is least for a_l = p_l. UserError if there are other than F rows, or no token.
Eigen::VectorXd location_posterior(const SignalLaw& law, const Eigen::MatrixXd& projections);

/// The same into `posterior` without checks; `projections` holds y_1 to y_L, F numbers each.
void location_posterior(const SignalLaw& law, const double* projections,
                        Eigen::VectorXd& posterior);

/// 1 - sum_l p_l^2 without cancellation where one p_l is near 1.
double posterior_variance(const Eigen::VectorXd& posterior);

/// The Bayes risk 1 - E sum_l p_l^2, the least limit loss that any predictor has, over `samples`
/// independent samples with their standard error. With L tokens and strength 0 it is 1 - 1 / L.
/// UserError that lists all mistakes: less than 2 tokens or samples.
Estimate sampled_bayes_risk(const SignalLaw& law, int64_t tokens, int64_t samples, uint64_t seed);

/// The same by a rule over F x L normal numbers (and F more for a Gaussian law). Exact to rounding
/// by Gauss-Hermite for weak signals in low dimension.
Estimate bayes_risk(const SignalLaw& law, int64_t tokens, const RuleSettings& settings);

}  // namespace weir
