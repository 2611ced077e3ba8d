#pragma once
// The options by which `weir measure` and `weir eval` name a checkpoint and how it is run.
#include <memory>
#include <string>
#include <vector>

#include "lab/measure/model_run.h"
#include "lab/measure/provenance.h"
#include "lab/train/config.h"
#include "tools/command.h"
#include "tools/rewrite_options.h"
#include "tools/text_options.h"

namespace weir {

struct CheckpointOptions {
  std::string model, memory;
  /// What --model names where several are taken: one model, or words that name a series of
  /// checkpoints (lab/experiments/checkpoint_series.h). `model` is then to be set by the command.
  std::vector<std::string> models;
  RewriteOptions rewrites;  ///< over those that the model was trained with
  int threads = 0;
  bool interpret = false, check_finite = false;

  void add_to(OptionTable& table, bool several = false);
  std::shared_ptr<const Checkpoint> open() const;
  /// The target, and the rewrites given or, where none is, those the model was trained with.
  CompileOptions compile_options(const Checkpoint& checkpoint) const;
  /// The same of a run that has not begun.
  CompileOptions compile_options(const RunConfig& config) const;
  RunSettings run_settings() const;
  /// Command, target and model; the input is still to be added.
  Provenance provenance(const Checkpoint& checkpoint) const;
  Provenance provenance(const std::string& path, std::vector<std::string> weight_files) const;
};

/// The most tokens of a sequence that may be asked for.
inline constexpr int64_t kMaxLength = int64_t{1} << 20;

/// The text that was given, and the tokenizer that read it.
void add_text(Provenance& provenance, const TextOptions& options, const TextInput& input);

/// What the run will take and how the batch is cut, before it runs; then what was compiled.
void print_plan(const ModelRun& run);
/// 0, or 1 where a run has met a value that is not finite, which is told as an error of `topic`.
int finite_status(const std::optional<NotFinite>& found, const std::string& topic);
/// Times, and peak memory against what was stated.
void print_costs(const ModelRun& run, double load_seconds, double run_seconds, int64_t tokens);

}  // namespace weir
