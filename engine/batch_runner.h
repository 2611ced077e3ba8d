#pragma once
// Programs run on batches: planned and compiled until they fit into memory, fed part by part, and
// the values of probes handed out. Training, measuring and evaluation are driven by this.
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/executable.h"
#include "engine/memory.h"
#include "engine/probe_value.h"

namespace weir {

/// Planned programs that share their states.
struct BatchPlan {
  /// Ways to compute a batch, such as a step with and without probes. Each is one program, or three
  /// for a batch in parts: *prepare*, *micro*, which runs once a part, and *finish*.
  std::vector<std::vector<GraphPtr>> variants;
  int64_t parts = 1;
  CompileSettings settings = {};
  /// What is known before compiling: planned_memory, and what the caller keeps.
  MemoryPeak peak = {};

  /// The programs of all variants, one after the other.
  std::vector<GraphPtr> programs() const;
};

/// What planned programs need that share states, inputs by name and one arena: `weights` are the
/// bytes of states of these names, `state` those of the others.
MemoryPeak planned_memory(const std::vector<GraphPtr>& planned,
                          const std::set<std::string>& weights);

/// A tensor of a whole batch, row-major; parts are cut along its first axis.
struct BatchInput {
  std::string name;
  const void* data;
};

class BatchRunner {
 public:
  /// The next plan to try: `last` is what the one before needed once it was compiled, null at
  /// first. Nothing when the last one is to stay, whether it fits or not.
  using Planner = std::function<std::optional<BatchPlan>(const MemoryPeak* last)>;

  /// Compiles plans until `planner` has no other. `threads` workers (0: all cores); `file_bytes` of
  /// files are in memory while weights are read.
  BatchRunner(const Planner& planner, int threads, int64_t file_bytes);

  /// Of the whole process.
  const MemoryPeak& memory() const { return memory_; }
  int threads() const;
  const Executables& programs() const { return *programs_; }

  /// Takes memory for all buffers, zeroed; `unload` gives it back.
  void load();
  void unload() { session_.reset(); }
  bool is_loaded() const { return session_ != nullptr; }
  /// The buffers; internal error unless loaded.
  Session& session() const;

  /// From now on every kernel call is shown to the sink (engine/finite_check.h); {} stops that.
  void set_kernel_sink(KernelSink sink);

  /// Writes an input of one number.
  void set_scalar(const std::string& name, double value);
  /// Computes a batch. Values of probes that reduce the batch come once, others once a part in the
  /// order of the batch.
  void run(size_t variant, const std::vector<BatchInput>& inputs, const ValueSink& sink = {},
           const ProfileSink& profile = {});
  /// A number that the variant has computed in the run before: a state, or an output of its last
  /// program.
  double scalar(size_t variant, const std::string& name) const;

 private:
  void compile();
  void write_part(const std::vector<BatchInput>& inputs, int64_t part);
  void run_program(size_t program, const ValueSink& sink, const ProfileSink& profile);
  /// The number of a variant's first program among all, and how many it has.
  size_t first_of(size_t variant) const;
  size_t count_of(size_t variant) const { return plan_.variants[variant].size(); }

  int threads_ = 0;
  int64_t file_bytes_ = 0;
  BatchPlan plan_;
  MemoryPeak memory_;
  std::unique_ptr<Executables> programs_;
  std::unique_ptr<Session> session_;
  KernelSink kernel_sink_;
};

}  // namespace weir
