#include "runtime/run_program.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "runtime/step_queue.h"
#include "support/error.h"

namespace weir {
namespace {

void run_kernel(const KernelCall& call, const std::vector<void*>& inputs,
                const Workspace& workspace, const Workers& workers) {
  const std::vector<void*> buffers = buffers_of(call, inputs, workspace);
  workers.parallel_tiles(call.tiles, [&](int64_t first, int64_t last, int worker) {
    call.function(buffers.data(), first, last, workspace.scratch(worker));
  });
}

// One step after the other, kernels timed and shown.
void run_one_by_one(const ProgramCode& code, const std::vector<void*>& inputs,
                    const Workspace& workspace, const Workers& workers, const ProbeSink& probe_sink,
                    const ProfileSink& profile_sink, const KernelSink& kernel_sink) {
  using Clock = std::chrono::steady_clock;
  for (const Step& step : code.steps) {
    if (step.kind == Step::Kind::probe) {
      const ProbeCall& call = code.probes[step.index];
      if (probe_sink) probe_sink(call.probe, address_of(call.buffer, inputs, workspace));
      continue;
    }
    const KernelCall& call = code.kernels[step.index];
    const auto start = Clock::now();
    run_kernel(call, inputs, workspace, workers);
    if (profile_sink)
      profile_sink(call, std::chrono::duration<double>(Clock::now() - start).count());
    if (kernel_sink) kernel_sink(call, {inputs, workspace, workers});
  }
}

// Outputs may be states that other copies overwrite (a <- b, b <- a): those are read first.
void copy_states(const ProgramCode& code, const std::vector<void*>& inputs,
                 const Workspace& workspace) {
  const auto is_overwritten = [&](BufferRef from) {
    return from.kind == BufferRef::Kind::input &&
           std::any_of(code.copies.begin(), code.copies.end(),
                       [&](const StateCopy& copy) { return copy.input == from.at; });
  };
  std::vector<std::vector<char>> staged(code.copies.size());
  for (size_t i = 0; i < code.copies.size(); ++i) {
    const StateCopy& copy = code.copies[i];
    if (!is_overwritten(copy.from)) continue;
    const char* from = address_of(copy.from, inputs, workspace);
    staged[i].assign(from, from + copy.bytes);
  }
  for (size_t i = 0; i < code.copies.size(); ++i) {
    const StateCopy& copy = code.copies[i];
    const void* from =
        staged[i].empty() ? address_of(copy.from, inputs, workspace) : staged[i].data();
    std::memcpy(inputs[copy.input], from, copy.bytes);
  }
}

}  // namespace

void run_program(const ProgramCode& code, const std::vector<void*>& inputs, Workspace& workspace,
                 const Workers& workers, const ProbeSink& probe_sink,
                 const ProfileSink& profile_sink, const KernelSink& kernel_sink) {
  WEIR_CHECK(static_cast<int64_t>(inputs.size()) == code.inputs, "{} inputs for a program of {}",
             inputs.size(), code.inputs);
  workspace.reserve(code, workers.count());
  if (profile_sink || kernel_sink) {
    run_one_by_one(code, inputs, workspace, workers, probe_sink, profile_sink, kernel_sink);
  } else {
    StepQueue queue(code, inputs, workspace, workers.count(), probe_sink);
    workers.together([&](int worker) { queue.work(worker); });
    queue.rethrow();
  }
  copy_states(code, inputs, workspace);
}

}  // namespace weir
