#pragma once
// The model of an experiment (`weir check`, `weir dial`): a checkpoint, or a configuration of a run
// whose weights are those of its start; and the batch that it is run on.
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "lab/measure/model_source.h"
#include "lab/train/config.h"
#include "tools/batch_options.h"
#include "tools/checkpoint_options.h"

namespace weir {

struct ExperimentOptions {
  CheckpointOptions checkpoint;
  BatchOptions input;
  /// Which data of its run a model is run on without --tokens and --text: the first batch that was
  /// trained on, or sequences that were held out; "" for the command's own choice.
  std::string data;
  /// Whether synthetic data of a run are held out where --data does not say.
  bool prefers_held_out = false;

  void add_to(OptionTable& table);
  /// --data alone, for a command that adds the others itself.
  void add_data(OptionTable& table);
  /// Whether the batch is of held-out sequences, of a run with these data.
  bool takes_held_out(const DataConfig& of) const;
  /// Adds what is wrong between options. Without --tokens and --text the model has to have data of
  /// its own.
  void check(const OptionTable& table, UsageProblems& problems) const;
};

/// What an experiment is about, read and checked.
struct Experiment {
  ModelSource source;
  CompileOptions options;  ///< target and rewrites
  TokenBatch batch;
  TokenBatch behind = {};         ///< the sequences behind it that BatchOptions::behind asks for
  std::string provenance;         ///< for its record
  std::optional<TextInput> text;  ///< the text and its tokenizer, of --text
  bool held_out = false;          ///< whether the batch is of held-out sequences
  bool synthetic = false;         ///< whether it is of synthetic data of a run
  std::shared_ptr<const Checkpoint> checkpoint;  ///< none of a configuration

  /// What only the model and the length of sequences tell of the other options.
  using Limits = std::function<void(const MeasuredModel&, int64_t length, UsageProblems&)>;
  /// `topic` is the command; errors are usage errors of it, all at once, before anything is
  /// computed.
  static Experiment open(const std::string& topic, const ExperimentOptions& options,
                         const Limits& limits);
};

/// Prints what an experiment (Dialler, HeadsExperiment, QuantizeExperiment) will take: memory, the
/// parts of its batch, kernels. `of_parts` ends the sentence about parts.
template <typename Programs>
void print_experiment_plan(const Programs& programs, bool interpreted, int64_t batch,
                           const char* of_parts = "") {
  if (interpreted) {
    fmt::print("Interpreted in f64.\n");
    return;
  }
  fmt::print("Peak memory {}\n", to_string(programs.memory()));
  if (const int64_t rows = programs.rows(); rows < batch)
    fmt::print("The batch is computed in {} parts of {} sequence{}{}.\n", batch / rows, rows,
               rows == 1 ? "" : "s", of_parts);
  const CompileReport report = programs.compile_report();
  fmt::print("{} kernels, {} distinct, {} from the cache, compiled in {:.1f} s\n", report.kernels,
             report.distinct, report.from_cache, report.seconds);
  std::fflush(stdout);
}

}  // namespace weir
