#pragma once
// The options of `weir measure`, for one checkpoint and for a series of them.
#include <string>
#include <utility>
#include <vector>

#include "lab/measure/measure.h"
#include "support/usage_error.h"
#include "tools/batch_options.h"
#include "tools/checkpoint_options.h"

namespace weir {

/// LAYER and HEAD of an attention map.
using MapHead = std::pair<int64_t, int64_t>;

struct MeasureArguments {
  CheckpointOptions checkpoint;
  BatchOptions input;
  std::string sink = "0", json, report, saved, probe_dtype = "f32", profile;
  bool no_report = false, overwrite = false;
  std::vector<std::string> probes, maps;

  /// Where the report goes, "" for nowhere.
  std::string report_path() const;
  /// Those of --map.
  std::vector<MapHead> heads() const;
};

/// A number of --sink-token, which is not auto.
int64_t sink_of(const std::string& text);
/// What only the model and the length of its sequences tell of the options.
void check_heads(const std::vector<MapHead>& heads, const MeasuredModel& sizes,
                 UsageProblems& problems);
void check_sink(const MeasureArguments& options, int64_t length, UsageProblems& problems);
/// Chooses the sink token of the task, by the attention of the model where it is auto.
void choose_sink(const MeasureArguments& options, const ModelSource& source,
                 const TokenBatch& batch, MeasureTask& task);
/// The exit status of a measurement that has been written down: a loss that is not finite is a
/// failure, and what is not finite first is named, as an error of `topic`.
int status_of(const std::string& record, const std::string& topic);
/// The text of every token of the batch, or its id where there is no tokenizer.
std::vector<std::string> token_texts(const MeasureArguments& options, const Checkpoint& checkpoint,
                                     const TokenBatch& batch);

/// Measures several checkpoints on the same tokens; the exit status.
int run_series(const MeasureArguments& options);

}  // namespace weir
