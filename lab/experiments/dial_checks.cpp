#include "lab/experiments/dial_checks.h"

#include <fmt/format.h>

#include <cmath>

#include "support/error.h"

namespace weir {
namespace {

constexpr double kExponentTolerance = 1e-4, kSlopeTolerance = 1e-3, kLossTolerance = 1e-4;

bool has_sweep(const DialResult& result, Upstream upstream) {
  for (const DialSweep& sweep : result.layers.at(0).sweeps)
    if (sweep.upstream == upstream) return true;
  return false;
}

DialCheck exponent_check(const DialTask& task, const DialResult& result) {
  WorstCase worst("exponent of E against M, g frozen, is 2", kExponentTolerance);
  for (const LayerDial& layer : result.layers)
    for (const DialSweep& sweep : layer.sweeps) {
      if (sweep.upstream != Upstream::frozen) continue;
      for (size_t h = 0; h < task.heads.size(); ++h) {
        const LineFit fit = mass_fit(sweep, h, task.confidence);
        if (fit.points < 2) continue;  // no query sees the key
        worst.see(std::abs(fit.slope - 2),
                  [&] { return fmt::format("layer {}, head {}", layer.layer, task.heads[h]); });
      }
    }
  return worst.check();
}

void add_branch_checks(const DialTask& task, const DialResult& result,
                       std::vector<DialCheck>& checks) {
  WorstCase slope("slope of compress against the norm is -1", kSlopeTolerance);
  WorstCase loss("the loss does not change", kLossTolerance);
  bool has_loss = false;
  for (const LayerDial& layer : result.layers)
    for (const DialSweep& sweep : layer.sweeps) {
      const LineFit fit = norm_fit(sweep, layer.eps, task.confidence);
      const auto where = [&] {
        return fmt::format("layer {}, g {}", layer.layer, upstream_name(sweep.upstream));
      };
      if (fit.points >= 2) slope.see(std::abs(fit.slope + 1), where);
      for (size_t v = 0; v < sweep.loss.size(); ++v) {
        has_loss = true;
        if (sweep.norm[v].mean_square > kEpsShare * layer.eps)
          loss.see(std::abs(sweep.loss[v] - result.loss) / result.loss,
                   [&] { return where() + ", norm " + task.values[v].name; });
      }
    }
  checks.push_back(slope.check());
  if (has_loss) checks.push_back(loss.check());
}

}  // namespace

std::vector<DialCheck> dial_checks(const DialTask& task, const AttentionChecks& watched,
                                   const DialResult& result) {
  std::vector<DialCheck> checks;
  switch (task.dial) {
    case Dial::mass:
    case Dial::value:
    case Dial::position:
      for (const WorstCase* worst :
           {&watched.by_sum, &watched.by_mass, &watched.by_moment, &watched.identity})
        checks.push_back(worst->check());
      if (task.dial == Dial::mass && task.form == DialForm::multiply &&
          has_sweep(result, Upstream::frozen))
        checks.push_back(exponent_check(task, result));
      return checks;
    case Dial::norm:
      if (task.form == DialForm::branch) add_branch_checks(task, result, checks);
      return checks;
    case Dial::mask:
      return checks;
  }
  internal_error_at("unknown dial");
}

}  // namespace weir
