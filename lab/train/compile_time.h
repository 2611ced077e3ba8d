#pragma once
// How long it takes from a configuration to the machine code of its training step.
#include "engine/executable.h"
#include "lab/train/config.h"

namespace weir {

struct CompileTime {
  double passes = 0;  ///< seconds for the model, its gradients and all passes
  double code = 0;    ///< seconds for kernels: emission, LLVM, or what the object cache gives
  CompileReport report;
  double total() const { return passes + code; }
};

/// The programs of the training step of a resolved configuration, planned, with the probes of a
/// measured step or without.
std::vector<GraphPtr> planned_step(const RunConfig& config, const Target& target, bool measured);

/// Of the step of a resolved configuration with the probes of a measured step, or without. Nothing
/// is run, and no memory for arrays is taken.
CompileTime compile_time(const RunConfig& config, const CompileSettings& settings, bool measured);

}  // namespace weir
