#pragma once
// Programs at work.
#include "runtime/program.h"
#include "runtime/threads.h"

namespace weir {

/// Runs every step, each once the steps that it comes after have ended; what a step computes does
/// not depend on the moment. With a profile sink or a kernel sink the steps run one after the other
/// instead. `inputs` has one aligned buffer an input, in order; state inputs are updated. Outputs
/// stay readable through output_data until the workspace is used again. What a probe sink throws is
/// thrown on, after the kernels that have started have ended.
void run_program(const ProgramCode& code, const std::vector<void*>& inputs, Workspace& workspace,
                 const Workers& workers, const ProbeSink& probe_sink = {},
                 const ProfileSink& profile_sink = {}, const KernelSink& kernel_sink = {});

}  // namespace weir
