#pragma once
// Checkpoints of a training run: a folder stepNNNNNN with model.safetensors (weights under Hugging
// Face names), config.json and the tokenizer's files, optimizer.safetensors (moments) and
// state.json (step, configuration, the hash of both files). A checkpoint appears whole or not at
// all.
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ir/type.h"

namespace weir {

/// A named array in memory: read from when writing, written to when reading.
struct StateArray {
  std::string name;
  Type type;
  void* data = nullptr;
};

struct CheckpointInfo {
  int64_t step = 0;    ///< optimiser steps done; the next is step `step`
  std::string config;  ///< the resolved configuration as JSON
  std::string target;  ///< instruction set of the machine, on which bits depend
  /// Further files by name that let `transformers` and `weir measure` load the folder: config.json
  /// and the tokenizer's. Not read back.
  std::map<std::string, std::string> texts = {};
};

std::string checkpoint_name(int64_t step);  ///< "step000500"

/// The step of a folder stepNNNNNN, -1 for any other name.
int64_t step_of_checkpoint(const std::filesystem::path& checkpoint);

/// The step that a checkpoint of a run states in its state.json, its weights being those of the
/// hash there. Nothing for a folder without such a file. User error: a damaged one, or other
/// weights.
std::optional<int64_t> stated_step(const std::filesystem::path& checkpoint);

/// Names of the files that a checkpoint consists of.
std::vector<std::string> checkpoint_files(const CheckpointInfo& info);

/// Writes `folder`/stepNNNNNN and returns its path; an older one of that step is replaced. What
/// others put into the folder of a checkpoint stays, here and where one is removed.
std::filesystem::path write_checkpoint(const std::filesystem::path& folder,
                                       const CheckpointInfo& info,
                                       const std::vector<StateArray>& weights,
                                       const std::vector<StateArray>& optimizer);

/// The checkpoints in `folder` by rising step; none if there is no such folder.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& folder);

/// Clears up after a process that was killed while it wrote, replaced or removed a checkpoint.
void remove_leftovers(const std::filesystem::path& folder);

/// Removes all but the `keep` newest (at least one); 0 keeps all. None is ever seen half removed.
void prune_checkpoints(const std::filesystem::path& folder, int64_t keep);

/// Reads a checkpoint into the arrays. User errors name the file and the way out, which is the
/// checkpoint before: a missing or damaged file, a hash that differs, missing, unknown or
/// mis-shaped arrays (all at once).
CheckpointInfo read_checkpoint(const std::filesystem::path& checkpoint,
                               const std::vector<StateArray>& weights,
                               const std::vector<StateArray>& optimizer);

}  // namespace weir
