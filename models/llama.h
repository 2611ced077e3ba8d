#pragma once
// The Llama-like decoder: pre-norm RMSNorm, rotary embedding in the half-split layout, grouped
// queries, SwiGLU, no biases (spec of the sink study, arXiv 2603.17771, section on models).
#include <string>
#include <vector>

#include "models/model.h"

namespace weir {

struct LlamaConfig {
  std::string name = "llama";
  int64_t layers = 1;
  int64_t d_model = 128;
  int64_t heads = 1;
  int64_t kv_heads = 0;  ///< 0: as many as heads
  int64_t d_head = 0;    ///< 0: d_model / heads
  int64_t d_ff = 320;
  int64_t vocabulary = 67;
  int64_t context = 128;  ///< T the configuration is meant for
  double rms_eps = 1e-5;  ///< inside the square root
  double rope_base = 10000;
  double init_deviation = 0.02;
  bool tied = false;  ///< the output projection is the embedding
};

/// "demo", "llama-0.1b", "llama-0.3b", "llama-1b".
std::vector<std::string> llama_config_names();
/// A named configuration; a user error lists the names otherwise.
LlamaConfig llama_config(const std::string& name);
/// The configuration with its zeros replaced by what they stand for, where that is possible.
LlamaConfig resolved(LlamaConfig config);
/// All that is wrong with a configuration, in one user error.
void check_config(const LlamaConfig& config);

/// The graph at batch B and length T, at stage built, with every hook named
/// (`blocks.{l}.attn.hook_q` ...; models/README.md lists them).
Model build_llama(const LlamaConfig& config, int64_t B, int64_t T);

}  // namespace weir
