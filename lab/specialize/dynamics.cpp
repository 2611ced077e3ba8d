#include "lab/specialize/dynamics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "lab/specialize/location_posterior.h"
#include "lab/specialize/sampled_excess.h"

namespace weir {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

// The flow through the stages of the learning rate; `with_rate`: with what a step adds to r.
std::vector<FlowPoint> staged_flow(const SpecializeConfig& config, const SpecializeCase& one,
                                   const OrderParameters& start, const std::vector<double>& times,
                                   bool with_rate) {
  const SimulationSettings simulation = specialize_simulation(config, one.heads, /*dimension=*/2);
  FlowSettings settings;
  settings.biases = simulation.biases;
  settings.bias_rate = simulation.bias_rate;
  settings.tie = simulation.tie;
  settings.rule = specialize_rule(config);
  std::vector<FlowPoint> points;
  OrderParameters at = start;
  for (size_t i = 0; i < simulation.rates.size(); ++i) {
    const double from = simulation.rates[i].from;
    const bool is_last = i + 1 == simulation.rates.size();
    const double until = is_last ? times.back() : simulation.rates[i + 1].from;
    std::vector<double> inside;
    for (double time : times)
      if (time >= from && (time < until || is_last)) inside.push_back(time - from);
    if (!is_last) inside.push_back(until - from);
    if (inside.empty()) continue;
    settings.eta_0 = with_rate ? simulation.rates[i].eta_0 : 0;
    const Flow flow = limit_flow(one.model, at, inside, settings);
    for (size_t k = 0; k + (is_last ? 0 : 1) < flow.points.size(); ++k) {
      points.push_back(flow.points[k]);
      points.back().time += from;
    }
    at = flow.points.back().at;
  }
  return points;
}

std::vector<double> deviations(const Simulation& simulation, const std::vector<FlowPoint>& flow) {
  std::vector<double> result;
  for (size_t i = 0; i < simulation.points.size(); ++i) {
    double sum = 0;
    for (const OrderParameters& at : simulation.points[i].at)
      sum += (at.r - flow[i].at.r).squaredNorm() / static_cast<double>(at.r.size());
    result.push_back(std::sqrt(sum / static_cast<double>(simulation.points[i].at.size())));
  }
  return result;
}

LineFit deviation_fit(const std::vector<DimensionRun>& runs,
                      std::vector<double> DimensionRun::* which, double confidence) {
  std::vector<double> x, y;
  for (const DimensionRun& run : runs) {
    x.push_back(static_cast<double>(run.dimension));
    y.push_back((run.*which).back());
  }
  return fit_power(x, y, confidence);
}

// E theta_f^2.
Eigen::VectorXd second_moments(const SignalLaw& law) {
  return law.covariance().diagonal() + law.mean().cwiseAbs2();
}

// The largest |theta_f|, or the standard deviation.
Eigen::VectorXd strengths_of(const SignalLaw& law) {
  if (law.kind() == SignalLaw::Kind::kGaussian) return law.scales();
  return law.points().cwiseAbs().colwise().maxCoeff().transpose();
}

}  // namespace

LearningOrder learning_order(const Simulation& simulation, const SignalLaw& law, double share) {
  LearningOrder order;
  const Eigen::VectorXd needed = share * strengths_of(law), variance = second_moments(law);
  const Eigen::Index directions = law.dimension();
  const size_t seeds = simulation.points.empty() ? 0 : simulation.points[0].at.size();
  for (size_t s = 0; s < seeds; ++s) {
    std::vector<double> learnt(static_cast<size_t>(directions), kNone);
    const Eigen::Index heads = simulation.points[0].at[s].heads();
    std::vector<Eigen::Index> serves(static_cast<size_t>(heads), -1);
    int64_t moves = 0;
    for (const SimulationPoint& point : simulation.points) {
      const Eigen::MatrixXd overlap = point.at[s].m.cwiseAbs();
      for (Eigen::Index f = 0; f < directions; ++f) {
        double& at = learnt[static_cast<size_t>(f)];
        if (overlap.col(f).maxCoeff() < needed[f])
          at = kNone;
        else if (std::isnan(at))
          at = point.time;
      }
      for (Eigen::Index h = 0; h < heads; ++h) {
        Eigen::Index f = 0;
        overlap.row(h).maxCoeff(&f);
        if (overlap(h, f) < needed[f]) continue;
        Eigen::Index& now = serves[static_cast<size_t>(h)];
        moves += now >= 0 && now != f;
        now = f;
      }
    }
    const bool complete =
        std::none_of(learnt.begin(), learnt.end(), [](double time) { return std::isnan(time); });
    bool in_order = complete;
    for (Eigen::Index f = 0; f < directions; ++f)
      for (Eigen::Index g = 0; g < directions; ++g)
        if (variance[f] > variance[g] * (1 + 1e-9) &&
            learnt[static_cast<size_t>(f)] > learnt[static_cast<size_t>(g)])
          in_order = false;
    order.complete += complete;
    order.in_order += in_order;
    order.learnt_at.push_back(std::move(learnt));
    order.moves.push_back(moves);
  }
  return order;
}

Dynamics run_dynamics(const SpecializeConfig& config, const SpecializeCase& one,
                      const std::function<void(const std::string&)>& say) {
  Dynamics result;
  for (int64_t i = 0; i < config.measurements; ++i)
    result.times.push_back(config.end * static_cast<double>(i) /
                           static_cast<double>(config.measurements - 1));
  const SimulationStart start = specialize_start(config, one);
  for (int64_t dimension : config.dimensions) {
    DimensionRun run{dimension,
                     simulate(one.model, start, result.times,
                              specialize_simulation(config, one.heads, dimension)),
                     {},
                     {},
                     {}};
    say(fmt::format("D = {}: {} steps of {} runs in {:.1f} s", dimension, run.simulation.steps,
                    config.seeds, run.simulation.run_seconds));
    run.order = learning_order(run.simulation, one.model.law, config.learnt);
    result.runs.push_back(std::move(run));
  }
  result.bayes = bayes_risk(one.model.law, one.model.tokens, specialize_rule(config));
  const auto last = std::max_element(
      result.runs.begin(), result.runs.end(),
      [](const DimensionRun& a, const DimensionRun& b) { return a.dimension < b.dimension; });
  const bool is_planted = start.random_deviation <= 0;
  if (config.flow) {
    const OrderParameters from = is_planted ? start.at : last->simulation.points.front().at.front();
    result.flow = staged_flow(config, one, from, result.times, true);
    result.gradient_flow = staged_flow(config, one, from, result.times, false);
    say("flow integrated with and without the learning-rate term");
  }
  if (config.flow && is_planted) {
    for (DimensionRun& run : result.runs) {
      run.deviation = deviations(run.simulation, result.flow);
      run.gradient_deviation = deviations(run.simulation, result.gradient_flow);
    }
    result.fit = deviation_fit(result.runs, &DimensionRun::deviation, config.confidence);
    result.gradient_fit =
        deviation_fit(result.runs, &DimensionRun::gradient_deviation, config.confidence);
  }
  const std::vector<OrderParameters>& end = last->simulation.points.back().at;
  const int64_t samples = std::max<int64_t>(2, config.samples / static_cast<int64_t>(end.size()));
  for (size_t s = 0; s < end.size(); ++s)
    result.excess.push_back(sampled_excess(one.model, end[s], samples, s + 1).excess);
  return result;
}

}  // namespace weir
