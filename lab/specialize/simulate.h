#pragma once
// Training of the single-location model in finite dimension by online SGD: the compiled program of
// models/single_location, with the order parameters measured by probes.
#include <Eigen/Core>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "lab/specialize/limit_risk.h"

namespace weir {

/// The learning rate is eta_0 / D from this time on, the time being the sum of eta_0 / D over the
/// steps.
struct RateStage {
  double from = 0;
  double eta_0 = 1;
};

struct SimulationSettings {
  int64_t dimension = 1000;  ///< D
  std::vector<uint64_t> seeds = {1};
  /// The first begins at 0; each later one after the one before.
  std::vector<RateStage> rates = {{}};
  HeadBiases biases = HeadBiases::kFixed;
  double bias_rate = 1;
  Eigen::MatrixXd tie = {};  ///< as in FlowSettings; empty: all keys are free
  int threads = 0;           ///< 0: all cores
  std::string cache = {};    ///< folder of the object cache; "": none
};

/// What the keys of a run start from, by its seed.
struct SimulationStart {
  /// The same order parameters for each run, exact up to f32, with keys that are otherwise random.
  /// Of biases tied to norms, b is what they start with.
  OrderParameters at;
  /// If positive, keys are N(0, deviation^2 / D) instead, so that |k_h| is about `deviation`, and
  /// only b is read.
  double random_deviation = 0;
};

struct SimulationPoint {
  double time = 0;
  int64_t step = 0;
  std::vector<OrderParameters> at;  ///< by seed
  /// By seed: the mean loss of the samples since the point before; NaN at the first point.
  Eigen::VectorXd loss;
};

struct Simulation {
  std::vector<SimulationPoint> points;  ///< one a requested time, at the last step not after it
  double compile_seconds = 0, run_seconds = 0;
  int64_t steps = 0;
};

/// Runs all seeds side by side to the last of `times`, which grow and are not negative. A run's
/// numbers depend on its seed and the settings alone, not on the other seeds or the threads.
/// `progress` is called now and then with the steps done and those there are. UserError that lists
/// all mistakes; one that names seed and time if an order parameter is no longer finite.
Simulation simulate(const LimitModel& model, const SimulationStart& start,
                    std::span<const double> times, const SimulationSettings& settings,
                    const std::function<void(int64_t, int64_t)>& progress = {});

}  // namespace weir
