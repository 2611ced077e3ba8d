#pragma once
#include <vector>

#include "support/target.h"

namespace weir {

/// The targets of which this machine can run code.
inline std::vector<Target> runnable_targets() {
  std::vector<Target> targets;
  for (const char* name : {"x86-64-v3", "x86-64-v4"})
    if (runs_here(parse_target(name))) targets.push_back(parse_target(name));
  return targets;
}

}  // namespace weir
