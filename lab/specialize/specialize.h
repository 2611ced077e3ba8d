#pragma once
// `weir specialize`: the experiment of a configuration, run and written as a record.
#include <functional>
#include <string>

#include "lab/specialize/experiment.h"

namespace weir {

/// The record `weir.specialize/1` (lab/README.md has its fields) as one line of JSON. `command` is
/// kept in it; `say` gets a line about each step of the work. UserError where the configuration
/// does not fit together, before anything is computed.
std::string run_specialize(const SpecializeConfig& config, const std::string& command,
                           const std::function<void(const std::string&)>& say);

}  // namespace weir
