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

  void add_to(OptionTable& table);
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
  std::shared_ptr<const Checkpoint> checkpoint;  ///< none of a configuration

  /// What only the model and the length of sequences tell of the other options.
  using Limits = std::function<void(const MeasuredModel&, int64_t length, UsageProblems&)>;
  /// `topic` is the command; errors are usage errors of it, all at once, before anything is
  /// computed.
  static Experiment open(const std::string& topic, const ExperimentOptions& options,
                         const Limits& limits);
};

}  // namespace weir
