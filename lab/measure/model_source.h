#pragma once
// A model with its weights, wherever they come from: what is measured and evaluated.
#include <functional>
#include <memory>
#include <string>

#include "lab/measure/metrics.h"
#include "models/checkpoint.h"
#include "models/model.h"
#include "passes/rewrites.h"

namespace weir {

struct ModelSource {
  /// As the record states them; `parameters` is counted from the built model.
  MeasuredModel sizes;
  /// The graph of stage built, with hook names.
  std::function<Model(int64_t B, int64_t T)> build;
  /// Of files, that one call of `read` maps at most: pages that count as this process's memory.
  int64_t mapped_bytes = 0;
  /// Fills a weight of the model; called from several threads.
  std::function<void(const Parameter&, float*)> read;
  /// Fills a state that a rewrite adds (theta of V-scale) and returns true, or leaves it at zero.
  std::function<bool(const AddedState&, float*)> read_added = {};
  /// Called when all weights have been read: user error for values that no weight has.
  std::function<void()> check_weights = {};
};

/// Weights and, where the model was trained with a rewrite that has states, those.
ModelSource checkpoint_source(const std::shared_ptr<const Checkpoint>& checkpoint);

/// The rewrites that the model was trained with, which are part of what it computes.
Rewrites trained_rewrites(const Checkpoint& checkpoint);

}  // namespace weir
