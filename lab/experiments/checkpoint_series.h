#pragma once
// Checkpoints of one training, measured one after the other by one compiled program: which they
// are, of which step each is, and a source that gives the weights of one of them at a time.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lab/measure/model_source.h"
#include "models/checkpoint.h"

namespace weir {

/// The step that the name of a checkpoint says: "step1000", "global_step1000", "checkpoint-1000",
/// "iter_0001000", "step1000-tokens2B", "1000"; of a file without its ending. Nothing for a name
/// without one, or with two that differ.
std::optional<int64_t> step_in_name(const std::string& path);

/// The models behind a word that names checkpoints, in the order of their names: those that a glob
/// matches (folders and .gguf files); in a folder that is no model itself the folders, or else the
/// .gguf files, whose names have steps; else the word itself. None for a glob that matches nothing.
std::vector<std::string> models_behind(const std::string& word);

/// Whether words name a series: several, a glob, or a folder of step folders.
bool names_series(const std::vector<std::string>& words);

struct SeriesMember {
  std::string path;
  int64_t step = 0;
  std::shared_ptr<const Checkpoint> checkpoint;
};

class CheckpointSeries {
 public:
  /// Opens all checkpoints. The step of each is what it states itself (state.json of a run's
  /// checkpoint, trainer_state.json of transformers), else what its name says. One usage error of
  /// `topic` lists everything wrong: a checkpoint that is damaged (weights of a run's checkpoint
  /// are compared with their hash), without a step, or whose name and state contradict each other;
  /// two of one step; and, where all of them are sound, sizes or architectures that differ, each
  /// with its checkpoints.
  CheckpointSeries(const std::string& topic, const std::vector<std::string>& words);

  /// By rising step, at least one. A checkpoint that was named twice is there once.
  const std::vector<SeriesMember>& members() const { return members_; }
  const SeriesMember& last() const { return members_.back(); }
  /// From now on the source gives the weights of this member; at first those of the last.
  void choose(const SeriesMember& member) { *chosen_ = member.checkpoint; }
  /// The model of all members. Outlives this, but not its choice.
  ModelSource source() const;

 private:
  std::vector<SeriesMember> members_;
  std::shared_ptr<std::shared_ptr<const Checkpoint>> chosen_ =
      std::make_shared<std::shared_ptr<const Checkpoint>>();
};

}  // namespace weir
