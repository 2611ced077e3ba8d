#pragma once
// A model with its weights, wherever they come from: what is measured and evaluated.
#include <functional>
#include <memory>
#include <string>

#include "lab/metrics.h"
#include "models/checkpoint.h"
#include "models/model.h"

namespace weir {

struct ModelSource {
  /// As the record states them; `parameters` is counted from the built model.
  MeasuredModel sizes;
  /// The graph of stage built, with hook names.
  std::function<Model(int64_t B, int64_t T)> build;
  /// Of the files that `read` maps, whose pages count as this process's memory while it reads.
  int64_t mapped_bytes = 0;
  /// Fills a weight of the model; called from several threads.
  std::function<void(const Parameter&, float*)> read;
  /// Fills a state that a rewrite adds (theta of V-scale) and returns true, or leaves it at zero.
  std::function<bool(const AddedState&, float*)> read_added = {};
};

ModelSource checkpoint_source(std::shared_ptr<const Checkpoint> checkpoint);

}  // namespace weir
