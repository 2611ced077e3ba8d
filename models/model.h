#pragma once
// What a model definition hands to the rest: its graph and, for each weight, how it starts and
// whether weight decay applies to it.
#include <string>
#include <vector>

#include "ir/graph.h"
#include "models/config.h"

namespace weir {

enum class Initial : uint8_t { normal, ones, zeros };

struct Parameter {
  std::string name;  ///< of the state input, as Hugging Face names the tensor
  Type type;
  Initial initial = Initial::normal;
  double deviation = 0;  ///< standard deviation of a normal start, mean 0
  bool decay = false;    ///< matrices and embeddings; not gains, biases, theta
  /// A matrix whose rows belong to tokens or positions: embedding, positions, output projection.
  /// Muon leaves it to AdamW.
  bool table = false;
};

/// Inputs of a language model's graph besides its weights: `tokens` and `targets` i32[B,T] (a
/// negative target is ignored) and `loss_scale` f32[] (1 / number of valid targets). Output `loss`.
struct Model {
  GraphPtr graph;
  std::vector<Parameter> parameters;

  int64_t parameter_count() const;
};

/// The graph at batch B and length T, at stage built, with every hook named
/// (`blocks.{l}.attn.hook_q` ...; models/README.md lists them). User error for a configuration that
/// check_config refuses, and for a T beyond its positions or its sliding window.
Model build_model(const ModelConfig& config, int64_t B, int64_t T);

}  // namespace weir
