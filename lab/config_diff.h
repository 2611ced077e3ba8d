#pragma once
// Whether a run may be continued with a configuration.
#include "lab/config.h"

namespace weir {

/// One user error lists every key that differs between the configuration a run was `started` with
/// and the `given` one. out, threads and checkpoint_every may differ: no result depends on them.
void check_same_config(const RunConfig& started, const RunConfig& given);

}  // namespace weir
