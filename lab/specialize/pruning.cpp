#include "lab/specialize/pruning.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "lab/specialize/location_posterior.h"

namespace weir {

OrderParameters kept_heads(const OrderParameters& at, const std::vector<int64_t>& kept) {
  const auto n = static_cast<Eigen::Index>(kept.size());
  OrderParameters result{Eigen::MatrixXd(n, at.m.cols()), Eigen::MatrixXd(n, n),
                         Eigen::VectorXd(n)};
  for (Eigen::Index i = 0; i < n; ++i) {
    const int64_t h = kept[static_cast<size_t>(i)];
    result.m.row(i) = at.m.row(h);
    result.b[i] = at.b[h];
    for (Eigen::Index j = 0; j < n; ++j) result.r(i, j) = at.r(h, kept[static_cast<size_t>(j)]);
  }
  return result;
}

PruningCurve pruning_curve(const LimitModel& model, const OrderParameters& at,
                           const RuleSettings& rule, double share) {
  PruningCurve curve;
  std::vector<int64_t> kept(static_cast<size_t>(at.heads()));
  std::iota(kept.begin(), kept.end(), 0);
  curve.risk.push_back(limit_risk(model, at, rule));
  while (kept.size() > 1) {
    size_t best = 0;
    Estimate least{};
    for (size_t i = 0; i < kept.size(); ++i) {
      std::vector<int64_t> rest = kept;
      rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(i));
      const Estimate risk = limit_risk(model, kept_heads(at, rest), rule);
      if (i == 0 || risk.value < least.value) {
        best = i;
        least = risk;
      }
    }
    curve.removed.push_back(kept[best]);
    curve.risk.push_back(least);
    kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(best));
  }
  const double limit = (1 + share) * curve.risk[0].value;
  while (curve.removable + 1 < static_cast<int64_t>(curve.risk.size()) &&
         curve.risk[static_cast<size_t>(curve.removable + 1)].value <= limit)
    ++curve.removable;
  return curve;
}

Pruning run_pruning(const SpecializeConfig& config, const SpecializeCase& one,
                    const std::function<void(const std::string&)>& say) {
  const std::vector<double> times = {config.end};
  const int64_t dimension = *std::max_element(config.dimensions.begin(), config.dimensions.end());
  const Simulation run = simulate(one.model, specialize_start(config, one), times,
                                  specialize_simulation(config, one.heads, dimension));
  say(fmt::format("D = {}: {} steps of {} runs in {:.1f} s", dimension, run.steps, config.seeds,
                  run.run_seconds));
  Pruning result;
  const SignalLaw& law = one.model.law;
  result.directions = law.dimension();
  result.support = law.kind() == SignalLaw::Kind::kDiscrete ? law.points().rows() : 0;
  result.bayes = bayes_risk(law, one.model.tokens, specialize_rule(config));
  for (const OrderParameters& at : run.points[0].at)
    result.curves.push_back(pruning_curve(one.model, at, specialize_rule(config), config.removal));
  return result;
}

}  // namespace weir
