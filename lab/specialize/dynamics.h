#pragma once
// Training of the heads: simulations in finite dimension over the flow of the limit.
#include <functional>
#include <string>
#include <vector>

#include "lab/experiments/line_fit.h"
#include "lab/specialize/experiment.h"
#include "lab/specialize/limit_flow.h"

namespace weir {

/// When a run learnt its directions, and how its heads moved.
struct LearningOrder {
  /// By seed and direction: the first measured time from which max_h |m_hf| >= share x strength
  /// held for good; NaN if there is none.
  std::vector<std::vector<double>> learnt_at;
  /// By seed: how often a head went from one learnt direction to another. A head serves the
  /// direction f with the largest |m_hf| where that is at least the same share of its strength.
  std::vector<int64_t> moves;
  /// Seeds that learnt all directions; of those, seeds that learnt them in the order of the
  /// variance of the signal along them (E theta_f^2, equal ones in any order).
  int64_t complete = 0, in_order = 0;
};

struct DimensionRun {
  int64_t dimension;
  Simulation simulation;
  LearningOrder order;
  /// By measured time: the root mean square over seeds and pairs of heads of r - r of the flow,
  /// with the learning-rate term and without. Empty without a flow, or for random starts, whose
  /// deviation does not shrink with the dimension.
  std::vector<double> deviation, gradient_deviation;
};

struct Dynamics {
  std::vector<double> times;
  std::vector<DimensionRun> runs;
  /// From the planted start, or from the keys that the first seed of the largest dimension starts
  /// with. Empty if not asked for.
  std::vector<FlowPoint> flow, gradient_flow;
  Estimate bayes;
  /// Of the deviation at the last time against the dimension, as a power; of at least three.
  LineFit fit = {}, gradient_fit = {};
  /// By seed of the last run, at its end: E|a - p|^2.
  std::vector<Estimate> excess;
};

/// `say` gets a line about each step of the work.
Dynamics run_dynamics(const SpecializeConfig& config, const SpecializeCase& one,
                      const std::function<void(const std::string&)>& say);

LearningOrder learning_order(const Simulation& simulation, const SignalLaw& law, double share);

}  // namespace weir
