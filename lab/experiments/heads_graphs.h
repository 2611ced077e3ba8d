#pragma once
// The programs of a heads experiment, made of one model's graph.
#include <string>

#include "lab/experiments/heads.h"
#include "lab/experiments/program_set.h"

namespace weir {

/// Values and inputs of a layer, by name.
struct HeadsNames {
  explicit HeadsNames(int64_t layer);
  std::string stream, z, bias, output;  ///< added to the graph: before the layer, before the mask,
                                        ///< the projection's bias if it has one, its output
  std::string keep, fill;  ///< inputs: z becomes z keep + fill, [1,1,H,1] and [1,1,H,d]
  std::string masked, result, pattern, gate;  ///< hooks of models/
};

/// The model of one part with its rewrites, the sequences' losses and a mask at hook_z of every
/// layer. User error that lists the hooks that the model lacks.
GraphPtr heads_model(const ModelSource& source, const CompileOptions& options, int64_t rows,
                     int64_t length, std::vector<AddedState>* added = nullptr);

/// The whole model: losses, and what the other programs start from.
SetProgram heads_base(const GraphPtr& model, int64_t layers);
/// The same with gradients of the mean loss at what the projections read.
SetProgram heads_gradient(const GraphPtr& model, int64_t layers);
/// Weights and contributions of a layer, from the stream before it.
SetProgram heads_layer(const GraphPtr& model, int64_t layer);
/// Losses from a layer's stream and z.
SetProgram heads_suffix(const GraphPtr& model, int64_t layer);

}  // namespace weir
