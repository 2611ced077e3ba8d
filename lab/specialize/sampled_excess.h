#pragma once
// The excess risk of heads whose keys need not lie in the span of the hidden directions, by
// samples.
#include "lab/specialize/limit_risk.h"

namespace weir {

struct SampledRisk {
  Estimate excess;  ///< E sum_l (a_l - p_l)^2, p the posterior: the risk above the Bayes risk
  Estimate bayes;   ///< of the same samples
};

/// Over `samples` independent samples (theta, scores, noise) in the limit of many dimensions, with
/// standard errors. Draws of runtime/random under `seed`: the same arguments give the same bits.
/// UserError that lists all mistakes: what check_parameters refuses, less than 2 samples.
SampledRisk sampled_excess(const LimitModel& model, const OrderParameters& at, int64_t samples,
                           uint64_t seed);

}  // namespace weir
