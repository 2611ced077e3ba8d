#include "lab/specialize/limit_flow.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

#include "lab/specialize/dormand_prince.h"
#include "support/error.h"

namespace weir {

namespace {

constexpr const char* kFlowTopic = "limit flow";
using Biases = HeadBiases;
using Eigen::MatrixXd;
using Eigen::VectorXd;

void check_flow(const OrderParameters& start, std::span<const double> times,
                const FlowSettings& settings) {
  Problems problems(kFlowTopic);
  for (size_t i = 0; i < times.size(); ++i)
    if (!std::isfinite(times[i]) || times[i] < 0 || (i > 0 && times[i] < times[i - 1]))
      problems.add(fmt::format("time {} is {}; times grow from 0", i + 1, times[i]));
  if (!std::isfinite(settings.eta_0) || settings.eta_0 < 0)
    problems.add(fmt::format("eta_0 is {}; 0 or a positive number is possible", settings.eta_0));
  if (!std::isfinite(settings.bias_rate) || settings.bias_rate < 0)
    problems.add(
        fmt::format("bias_rate is {}; 0 or a positive number is possible", settings.bias_rate));
  if (!(settings.tolerance >= 1e-13 && settings.tolerance <= 0.1))
    problems.add(fmt::format("tolerance is {}; 1e-13 to 0.1 is possible", settings.tolerance));
  if (settings.most_steps < 1)
    problems.add(fmt::format("most_steps is {}; at least 1 is needed", settings.most_steps));
  const MatrixXd& tie = settings.tie;
  if (tie.size() > 0 && tie.rows() != start.heads()) {
    problems.add(fmt::format("tie has {} rows for {} heads", tie.rows(), start.heads()));
  } else if (tie.size() > 0) {
    // What of the keys is no combination of the columns of tie, by its Gram matrix.
    const MatrixXd onto = tie * tie.completeOrthogonalDecomposition().pseudoInverse();
    const MatrixXd away = MatrixXd::Identity(start.heads(), start.heads()) - onto;
    const double size = std::max(1e-300, start.r.cwiseAbs().maxCoeff());
    if (!tie.allFinite() || (away * start.r * away.transpose()).cwiseAbs().maxCoeff() > 1e-9 * size)
      problems.add("the keys of the start are not tied as `tie` says");
  }
  problems.raise();
}

// The drift of (m, r, b), which are packed into one vector.
class Drift {
 public:
  Drift(const LimitModel& model, const OrderParameters& start, const FlowSettings& settings)
      : model_(model),
        settings_(settings),
        rule_(score_rule(model, start.heads(), settings.rule)),
        heads_(start.heads()),
        directions_(start.m.cols()),
        offsets_(start.b - start.r.diagonal() / 2) {
    if (settings.tie.size() > 0) mixing_ = settings.tie * settings.tie.transpose();
  }

  VectorXd pack(const MatrixXd& m, const MatrixXd& r, const VectorXd& b) const {
    VectorXd state(m.size() + r.size() + b.size());
    state << m.reshaped(), r.reshaped(), b;
    return state;
  }
  OrderParameters unpack(const VectorXd& state) const {
    const Eigen::Index of_m = heads_ * directions_, of_r = heads_ * heads_;
    OrderParameters at;
    at.m = state.head(of_m).reshaped(heads_, directions_);
    at.r = state.segment(of_m, of_r).reshaped(heads_, heads_);
    at.b = state.tail(heads_);
    if (settings_.biases == Biases::kTiedToNorm) at.b = at.r.diagonal() / 2 + offsets_;
    return at;
  }

  VectorXd operator()(const VectorXd& state) const {
    const OrderParameters at = unpack(state);
    return drift_of(at, mean_averages(averages_at(at)));
  }

  FlowPoint point(double time, const VectorXd& state) const {
    const OrderParameters at = unpack(state);
    const std::vector<LimitAverages> groups = averages_at(at);
    const auto n = static_cast<Eigen::Index>(groups.size());
    VectorXd losses(n);
    MatrixXd drifts(state.size(), n);
    for (Eigen::Index g = 0; g < n; ++g) {
      losses[g] = groups[static_cast<size_t>(g)].loss;
      drifts.col(g) = drift_of(at, groups[static_cast<size_t>(g)]);
    }
    double error = mean_of(drifts.row(0)).error;
    for (Eigen::Index i = 1; i < drifts.rows(); ++i)
      error = std::max(error, mean_of(drifts.row(i)).error);
    return {time, at, mean_of(losses), error};
  }

 private:
  std::vector<LimitAverages> averages_at(const OrderParameters& at) const {
    return limit_averages(model_, at.m, symmetric_root(at.r), at.b, rule_, AveragesUpTo::kFlow);
  }

  VectorXd drift_of(const OrderParameters& at, const LimitAverages& averages) const {
    MatrixXd J = averages.curvature, N = settings_.eta_0 * averages.step_noise;
    VectorXd by_bias = VectorXd::Zero(heads_);
    switch (settings_.biases) {
      case Biases::kFixed:
        break;
      case Biases::kTrained:
        by_bias = settings_.bias_rate * averages.by_bias;
        break;
      case Biases::kTiedToNorm:
        J += averages.by_bias.asDiagonal();
        break;
    }
    MatrixXd by_m = J * at.m + averages.signal;
    MatrixXd by_r = J * at.r + averages.signal * at.m.transpose();
    if (mixing_.size() > 0) {  // the gradient of a free key is the sum over the heads that it moves
      by_m = mixing_ * by_m;
      by_r = mixing_ * by_r;
      N = mixing_ * N * mixing_;
    }
    const MatrixXd both = N - by_r - by_r.transpose();
    return pack(-by_m, (both + both.transpose()) / 2, -by_bias);
  }

  const LimitModel& model_;
  const FlowSettings& settings_;
  GaussianRule rule_;
  Eigen::Index heads_, directions_;
  VectorXd offsets_;  ///< b - |k|^2 / 2 at the start
  MatrixXd mixing_;   ///< tie tie^T
};

}  // namespace

Flow limit_flow(const LimitModel& model, const OrderParameters& start,
                std::span<const double> times, const FlowSettings& settings) {
  check_parameters(model, start);
  check_flow(start, times, settings);
  const Drift drift(model, start, settings);
  DormandPrince solver([&](const VectorXd& state) { return drift(state); },
                       drift.pack(start.m, (start.r + start.r.transpose()) / 2, start.b),
                       settings.tolerance);
  Flow flow;
  for (double time : times) {
    while (solver.time() < time) {
      if (solver.steps() + solver.rejected() >= settings.most_steps)
        user_error(kFlowTopic,
                   "the {} steps of most_steps have led to time {:.6g} of {:.6g}; more steps or a "
                   "larger tolerance are possible",
                   settings.most_steps, solver.time(), time);
      if (!solver.step(time))
        user_error(
            kFlowTopic,
            "the step became too small at time {:.6g}; a smaller eta_0, smaller biases' rate "
            "or a larger tolerance are possible",
            solver.time());
    }
    flow.points.push_back(drift.point(time, solver.state()));
  }
  flow.steps = solver.steps();
  flow.rejected = solver.rejected();
  return flow;
}

}  // namespace weir
