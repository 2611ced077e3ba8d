#pragma once
// One arm's compiled training step and its state in memory: initial weights, a step on a batch,
// and a step that hands out its probes. What is written where is lab/train's matter.
#include <memory>
#include <optional>

#include "engine/batch_runner.h"
#include "lab/train/batches.h"
#include "lab/train/checkpoint.h"
#include "lab/train/train_graphs.h"

namespace weir {

struct StepResult {
  double loss = 0;       ///< mean over the valid targets, nats
  double grad_norm = 0;  ///< of all gradients together, before clipping
  double rate = 0;
};

/// Of held-out sequences.
struct ValidationResult {
  double loss = 0;      ///< mean over the valid targets, nats
  int64_t targets = 0;  ///< that are valid
  /// Of data.kind=recall the share of them that are recalled (passes/sequence_loss.h).
  std::optional<double> recalled = {};
};

class Trainer {
 public:
  /// Compiles the step (and the measured step if `measured`) of a resolved configuration. `source`
  /// outlives the trainer. User errors: those of make_training_graphs; more memory needed than
  /// free.
  Trainer(const RunConfig& config, const BatchSource& source, const CompileSettings& settings,
          bool measured);

  /// Weights from streams of the seed that their names choose, so that a weight starts the same
  /// whatever other weights there are; theta and moments 0.
  void initialise();

  /// Step `step`, counted from 0, on batch `step` of the source. User errors: a negative step; a
  /// batch without targets.
  StepResult step(int64_t step);
  /// The same step to the bit; the probes' values of the state before the update go to `sink`,
  /// those that reduce the batch once, others once a micro-batch in the order of the batch. User
  /// error of a trainer without probes.
  StepResult measured_step(int64_t step, const ValueSink& sink);
  StepResult measured_step(int64_t step, Tensors& probes);
  /// Measures batch `step` and leaves the state as it was.
  StepResult measure(int64_t step, const ValueSink& sink);

  /// Evaluates sequences 0 .. count - 1 of `source` and leaves the state as it is. Internal error
  /// where the configuration holds nothing out.
  ValidationResult validate(const BatchSource& source, int64_t count);

  const TrainingGraphs& graphs() const { return graphs_; }
  const CompileReport& compile_report() const { return programs().report(); }
  const Executables& programs() const { return runner_->programs(); }
  int threads() const { return runner_->threads(); }
  /// From now on every kernel call is timed (engine/profile.h); {} stops that.
  void set_profile(ProfileSink sink) { profile_ = std::move(sink); }
  /// From now on every kernel call is shown to the sink (engine/finite_check.h); {} stops that.
  void set_kernel_sink(KernelSink sink) { runner_->set_kernel_sink(std::move(sink)); }
  /// Of the whole process, what a measured step keeps and writes included.
  const MemoryPeak& memory() const { return runner_->memory(); }
  std::vector<StateArray> weights();
  std::vector<StateArray> optimizer_state();
  /// Tokens of one sequence of batch `step`.
  std::vector<int32_t> sequence(int64_t step, int64_t row) const;

 private:
  /// Plans of less and less memory, while the last one needs more than the limit.
  BatchRunner::Planner planner(const CompileSettings& settings);
  BatchPlan plan(const CompileSettings& settings, int64_t memory) const;
  void check_memory(const MemoryPeak& need) const;
  StepResult run(int64_t step, size_t variant, const ValueSink& sink);

  RunConfig config_;
  const BatchSource& source_;
  TrainingGraphs graphs_;
  int64_t limit_ = 0;  ///< bytes that the process may have
  std::unique_ptr<BatchRunner> runner_;
  ProfileSink profile_;
};

/// Fills `data` with the start of a weight: a pure function of seed and name.
void initialise_parameter(const Parameter& parameter, uint64_t seed, float* data);

}  // namespace weir
