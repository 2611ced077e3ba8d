#pragma once
// A model, and a model with its weights, wherever they come from: what is trained, measured and
// evaluated.
#include <functional>
#include <memory>
#include <string>

#include "lab/measure/metrics.h"
#include "models/checkpoint.h"
#include "models/model.h"
#include "passes/rewrites.h"

namespace weir {

/// A model of any make: from models/, or of one's own, written with the builder.
struct ModelDefinition {
  /// As the record states them; `parameters` is counted from the built model.
  MeasuredModel sizes = {};
  /// The graph of stage built, with hook names; see Model for its inputs and its output.
  std::function<Model(int64_t B, int64_t T)> build = {};
};

/// User error that lists what a model lacks to be trained or measured on B sequences of T tokens:
/// inputs tokens and targets i32[B,T] and loss_scale f32[], an output loss f32[], and a parameter
/// for every state, of its type.
void check_model(const Model& model, int64_t B, int64_t T);

struct ModelSource : ModelDefinition {
  /// Of files, that one call of `read` maps at most: pages that count as this process's memory.
  int64_t mapped_bytes = 0;
  /// Fills a weight of the model; called from several threads.
  std::function<void(const Parameter&, float*)> read;
  /// Fills a state that a rewrite adds (theta of V-scale) and returns true, or leaves it to its
  /// first value (ir/rewrite_state.h).
  std::function<bool(const AddedState&, float*)> read_added = {};
  /// Called when all weights have been read: user error for values that no weight has.
  std::function<void()> check_weights = {};
};

/// Weights and, where the model was trained with a rewrite that has states, those.
ModelSource checkpoint_source(const std::shared_ptr<const Checkpoint>& checkpoint);

/// A model of one's own with the weights of `folder`, which holds model.safetensors, as a
/// checkpoint of its training does. User errors: a missing or mis-shaped tensor, when it is read.
ModelSource stored_source(const ModelDefinition& model, const std::string& folder);

/// The rewrites that the model was trained with, which are part of what it computes. User error:
/// rewrites that are wrong, or whose states (theta of V-scale) the checkpoint does not have.
Rewrites trained_rewrites(const Checkpoint& checkpoint);

}  // namespace weir
