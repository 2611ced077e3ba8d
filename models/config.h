#pragma once
// The configuration of a model: one type for all architectures, which differ in how its numbers are
// put together (models/architecture.h).
#include <map>
#include <string>
#include <vector>

#include "ir/builder.h"

namespace weir {

/// A sigmoid gate on what attention gives, whose logits the projection to q makes: for each key
/// head first the queries of its group, then one logit a query head or one a feature of them.
enum class OutputGate : uint8_t { none, head, element };

struct ModelConfig {
  std::string name = "llama";
  int64_t layers = 1;
  int64_t d_model = 128;
  int64_t heads = 1;
  int64_t kv_heads = 0;     ///< 0: as many as heads
  int64_t d_head = 0;       ///< 0: d_model / heads
  int64_t score_width = 0;  ///< scores are multiplied by 1 / sqrt of it; 0: d_head
  int64_t d_ff = 320;
  int64_t vocabulary = 67;
  int64_t context = 128;  ///< T the configuration is meant for; learned positions are as many
  double rms_eps = 1e-5;  ///< inside the square root of a norm
  double rope_base = 10000;
  /// Soft caps, c tanh(x / c), of the scores of attention and of the logits; 0: none.
  double score_cap = 0, logit_cap = 0;
  double init_deviation = 0.02;
  bool tied = false;  ///< the output projection is the embedding
  /// Biases on the projections to q, k, v and of the output of attention, and on those of the MLP,
  /// of architectures that leave it to the configuration.
  bool attention_bias = false, mlp_bias = false;
  OutputGate output_gate = OutputGate::none;
  /// Where norms stand in a block: "pre", "post", "sandwich" or "none", as NormPlace of
  /// models/block.h has them. "pre" leaves an architecture alone whose blocks have another place
  /// (Gemma 2).
  std::string norm_place = "pre";
  int64_t norm_gate = 0;  ///< rank of the gate behind every norm (models/block.h); 0: none
  std::string architecture = "llama";  ///< a name in models/architectures.cpp
  RopeScaling rope_scaling = {};
  /// Keys that a query sees at most (sliding window); 0: all. No T above it is built.
  int64_t window = 0;
  /// Rewrites that the model was trained with, as `weir train` spells them ("v_scale.variant" is
  /// "full"): they are part of the model, but not of the graph that is built.
  std::map<std::string, std::string> rewrites = {};
  /// What was decided when the configuration was read from a file: contradictions, defaults.
  std::vector<std::string> notes = {};
};

/// The configuration with its zeros replaced by what they stand for, where that is possible.
ModelConfig resolved(ModelConfig config);
/// Tokens of a text up to which the configuration says that the model works: `context`, or what it
/// had in training times the factor of its rotary scaling, if that is more.
int64_t stated_context(const ModelConfig& config);
/// "pre", "post", "sandwich", "none".
const std::vector<std::string>& norm_places();
/// All that is wrong with a configuration, in one user error.
void check_config(const ModelConfig& config);

}  // namespace weir
