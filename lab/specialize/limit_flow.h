#pragma once
// Training of the heads in the limit of many dimensions (arXiv 2603.03993): online SGD on the loss
// per coordinate with the rate eta_0 / D follows, in the time eta_0 x steps / D, a closed
// differential equation for m [H, F], r [H, H] and the biases b [H].
//
// By Stein's lemma the drift of the keys is a combination of keys and hidden directions,
//   dk_h / dt = - sum_h' J_hh' k_h' - sum_f S_hf k*_f,
//   J_hh' = E sum_l d c_hl / d chi_h'l,   S_hf = E c_h0 theta_f,   c_hl = dg / dchi_hl,
// so that
//   dm / dt = -(J m + S)
//   dr / dt = -(J r + S m^T) - (J r + S m^T)^T + eta_0 N,   N_hh' = E sum_l c_hl c_h'l
//   db / dt = - bias_rate E dg / db.
// The last term of dr / dt is what one step adds to second order: the squares of D noise
// coordinates, which do not vanish at this rate. Whatever the error of J, S and N, m and r stay
// those of some keys: the first two equations are those of a linear flow of keys, and N is positive
// semidefinite.
#include <Eigen/Core>
#include <cstdint>
#include <span>
#include <vector>

#include "lab/specialize/limit_risk.h"

namespace weir {

struct FlowSettings {
  /// The learning-rate term; 0 is gradient flow.
  double eta_0 = 0;
  /// Trained ones have the rate bias_rate x eta_0 / D a step; of tied ones the start gives the
  /// offset b_h - |k_h|^2 / 2.
  HeadBiases biases = HeadBiases::kFixed;
  double bias_rate = 1;
  /// Tied keys: K = tie K_free with G free keys, [H, G], as {1, -1} in a column for two opposite
  /// heads. Empty: all keys are free. The start has to have such keys.
  Eigen::MatrixXd tie;
  RuleSettings rule;
  /// Of a step of the integration, relative to 1 + the size of a number.
  double tolerance = 1e-6;
  int64_t most_steps = 20000;
};

struct FlowPoint {
  double time;
  OrderParameters at;
  Estimate loss;  ///< with its standard error over the shifts of the rule
  /// The largest standard error, over the shifts, of any part of the drift; NaN for Gauss-Hermite.
  double drift_error;
};

struct Flow {
  std::vector<FlowPoint> points;  ///< one a requested time
  int64_t steps = 0, rejected = 0;
};

/// Integrates from `start` at time 0 by the embedded pair of Dormand and Prince (order 5 with an
/// estimate of order 4; J. Comput. Appl. Math. 6, 1980) with step-size control. `times` grow and
/// are not negative. The points of the expectations are fixed, so the same arguments give the same
/// bits. UserError that lists all mistakes in the arguments; UserError if the step becomes too
/// small or steps run out, with the time.
Flow limit_flow(const LimitModel& model, const OrderParameters& start,
                std::span<const double> times, const FlowSettings& settings);

}  // namespace weir
