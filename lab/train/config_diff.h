#pragma once
// Whether a run may be continued with a configuration.
#include <string>
#include <vector>

#include "lab/train/config.h"

namespace weir {

/// One usage error lists every key that differs between the configuration a run was `started` with
/// and the `given` one. out, threads, memory, checkpoint_every and keep_checkpoints may differ, as
/// no result depends on them, and on_nonfinite, which steps that are done did not need.
/// steps may be larger where the learning rate of the first steps stays what it was: a constant
/// one, or a cosine with a restart at the old number of steps.
void check_same_config(const RunConfig& started, const RunConfig& given);

/// In what the configuration that an arm was trained with differs from what that of the run makes
/// of it now, a clause each; what check_same_config allows is no difference.
std::vector<std::string> differs_from_run(const RunConfig& arm, const RunConfig& run);

}  // namespace weir
