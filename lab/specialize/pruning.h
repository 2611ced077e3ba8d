#pragma once
// Heads removed from trained ones, one after another, each time the one whose removal costs least.
#include <functional>
#include <string>
#include <vector>

#include "lab/specialize/experiment.h"

namespace weir {

/// Heads `kept` of the order parameters, in that order. Without training again: keys and biases
/// stay. Softmax averages over the heads that are kept.
OrderParameters kept_heads(const OrderParameters& at, const std::vector<int64_t>& kept);

struct PruningCurve {
  std::vector<int64_t> removed;  ///< the heads, in order; H - 1 of them
  std::vector<Estimate> risk;    ///< limit risk with 0, 1, ... heads removed
  /// How many may go before the risk is above (1 + share) times that of all heads.
  int64_t removable = 0;
};

/// Greedy: H + (H - 1) + ... limit risks by one rule.
PruningCurve pruning_curve(const LimitModel& model, const OrderParameters& at,
                           const RuleSettings& rule, double share);

struct Pruning {
  Estimate bayes;
  std::vector<PruningCurve> curves;  ///< by seed
  int64_t directions = 0;            ///< F: the line H - F
  int64_t support = 0;               ///< points of the law: the line H - points; 0: Gaussian
};

/// Trains by simulation in the largest of the dimensions, then prunes every run.
Pruning run_pruning(const SpecializeConfig& config, const SpecializeCase& one,
                    const std::function<void(const std::string&)>& say);

}  // namespace weir
