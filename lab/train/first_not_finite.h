#pragma once
// Where a loss that is not finite comes from: the first value that is not finite, in the order of
// computation.
#include <functional>
#include <string>

#include "lab/train/trainer.h"

namespace weir {

/// Computes step `step` once more with probes of the residual stream and of every weight's
/// gradient, after `load` has read the state before it into a trainer of its own, and says what is
/// not finite first: a hook with its position, the loss, or a gradient with its position, the
/// gradients in the order in which they are computed, from the output back. A sentence without its
/// full stop; "" if all is finite.
std::string first_not_finite(const RunConfig& config, const BatchSource& source,
                             const CompileSettings& settings, int64_t step,
                             const std::function<void(Trainer&)>& load);

}  // namespace weir
