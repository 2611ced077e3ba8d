#pragma once
// The options by which `weir measure` and `weir eval` name a checkpoint and how it is run.
#include <memory>
#include <string>
#include <vector>

#include "lab/model_run.h"
#include "lab/provenance.h"
#include "tools/command.h"

namespace weir {

struct CheckpointOptions {
  std::string model, v_scale, attention, memory;  ///< rewrites: "" is as the model was trained
  int threads = 0;
  bool interpret = false;

  void add_to(CLI::App& command);
  std::shared_ptr<const Checkpoint> open() const;
  /// The target, and the rewrites given or, where none is, those the model was trained with.
  CompileOptions compile_options(const Checkpoint& checkpoint) const;
  RunSettings run_settings() const;
  /// Command, target and model; the input is still to be added.
  Provenance provenance(const Checkpoint& checkpoint) const;
};

/// The text that was given, and the tokenizer that read it.
void add_text(Provenance& provenance, const std::vector<std::string>& inputs,
              const Tokenizer& tokenizer);

/// The files of one --text option, whose parts commas divide.
std::vector<std::string> text_files(const std::string& option);

/// What the run will take and how the batch is cut, before it runs; then what was compiled.
void print_plan(const ModelRun& run);
/// Times, and peak memory against what was stated.
void print_costs(const ModelRun& run, double load_seconds, double run_seconds, int64_t tokens);

}  // namespace weir
