#pragma once
// The claims of a dial that hold exactly, at the end of an experiment.
#include <vector>

#include "lab/experiments/dial_numbers.h"

namespace weir {

/// Of the dials of attention the bounds and the identity that were watched; of form `multiply` with
/// g frozen the exponent 2, within 1e-4; of the norm dial in form `branch` the slope -1, within
/// 0.001, and a loss that changes by at most 1e-4 of itself, where mean_square > kEpsShare eps.
std::vector<DialCheck> dial_checks(const DialTask& task, const AttentionChecks& watched,
                                   const DialResult& result);

}  // namespace weir
