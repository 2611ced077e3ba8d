#pragma once
// The least limit risk that H heads of an activation reach, against the strength of the signal,
// with the Bayes risk (arXiv 2603.03993).
#include <cstdint>
#include <span>
#include <vector>

#include "lab/specialize/limit_risk.h"

namespace weir {

struct BestRiskSettings {
  int64_t heads = 2;
  RuleSettings rule;          ///< of the minimisation; results are computed with other shifts
  int64_t random_starts = 3;  ///< beside those at the points of the law
  uint64_t seed = 1;          ///< of the starts
  int64_t most_iterations = 200;
  /// The search ends where the largest derivative of the risk is below.
  double tolerance = 1e-6;
};

/// The best stationary point found, or start, of the limit risk over keys in the span of the hidden
/// directions and, where the activation has them, biases.
struct BestRisk {
  OrderParameters at;  ///< r = m m^T; b is 0 for softmax
  Estimate risk, excess;
  double gradient;     ///< the largest derivative of the rule's risk there
  int64_t iterations;  ///< 0 for a start
  /// The smallest eigenvalue of E sum_l d^2 g / dchi_hl dchi_h'l. Where it is not negative, no
  /// small part of keys outside of the span lowers the risk, so the point is also one over (m, r,
  /// b).
  double outside_curvature;
  std::vector<double> risks;  ///< of all starts, by the rule of the search, in the order of starts
};

/// The best of the minima that the method of Broyden, Fletcher, Goldfarb and Shanno reaches from
/// `starts` (m and b are read), from heads planted at the points of the law in turn (those of
/// +-strength along each direction for a Gaussian law), from half of these, from all heads at the
/// mean, and from random keys. The one with the least excess over Bayes is the best, on other
/// shifts than those of the search; starts compete as well, for where risks are below the error of
/// the rule a search may lead away from the optimum. The rule's points are fixed, so the same
/// arguments give the same bits. UserError that lists all mistakes.
BestRisk best_risk(const LimitModel& model, const BestRiskSettings& settings,
                   std::span<const OrderParameters> starts = {});

struct RiskPoint {
  double strength;  ///< theta is strength x that of the model's law
  Estimate bayes;
  BestRisk best;
};

/// Risk against strength. Each point also starts from the best of the one before it, with keys
/// longer by the ratio of strengths. A lattice resolves risks down to about 1e-4; below, the stated
/// errors are themselves uncertain, since what matters is rare.
std::vector<RiskPoint> risk_curve(const LimitModel& unit, std::span<const double> strengths,
                                  const BestRiskSettings& settings);

}  // namespace weir
