#pragma once
// The options that say what an onset is, of `report` and `compare`.
#include "lab/report/onset_settings.h"
#include "tools/options.h"

namespace weir {

/// Adds a row for each threshold and for the number of measurements; the settings outlive the
/// table.
void add_onset_options(OptionTable& table, OnsetSettings& settings);

}  // namespace weir
