#pragma once
// What the blocks of a decoder are made of, as data: models/transformer.cpp builds any of them.
#include <cstdint>

namespace weir {

enum class NormKind : uint8_t {
  rms,           ///< RMSNorm: a gain
  rms_plus_one,  ///< RMSNorm whose gain is its weight plus one
  layer          ///< LayerNorm: a gain and a bias
};

/// Where the norm of a branch f stands.
enum class NormPlace : uint8_t {
  before,  ///< x + f(norm(x))
  after,   ///< norm(x + f(x))
  around,  ///< x + norm(f(norm(x))), the sandwich norm
  none     ///< x + f(x); the norm behind the last block stays
};

enum class MlpKind : uint8_t {
  swiglu,  ///< down(silu(gate(x)) up(x))
  geglu,   ///< down(gelu(gate(x)) up(x))
  gelu     ///< down(gelu(up(x)))
};

enum class Positions : uint8_t {
  rotary,  ///< queries and keys are rotated, in the half-split layout
  learned  ///< rows of a table are added to the embedding
};

/// How matrices lie, and whether one makes q, k and v.
enum class Projections : uint8_t {
  separate,  ///< [out, in]
  joint      ///< [in, out], those of q, k and v side by side in one
};

/// Names of weights; those of a layer stand behind `layer`, whose {} is its number. A norm, and a
/// projection, has `.weight` and, where it has one, `.bias`. "" for what a block does not have.
struct WeightNames {
  const char* base = "";  ///< left out of all names by the library in a model without its head
  const char* embedding;
  const char* positions = "";
  const char* layer;
  const char* attention_norm;
  const char* q = "";
  const char* k = "";
  const char* v = "";
  const char* qkv = "";  ///< instead of q, k and v
  const char* q_norm = "";
  const char* k_norm = "";
  const char* attention_out;
  const char* attention_out_norm = "";  ///< of a sandwich norm
  const char* mlp_norm;
  const char* gate = "";
  const char* up;
  const char* down;
  const char* mlp_out_norm = "";  ///< of a sandwich norm
  const char* final_norm;
  const char* output = "lm_head";  ///< absent where the embedding is the output projection
};

struct BlockDescription {
  NormKind norm = NormKind::rms;
  NormPlace norm_place = NormPlace::before;
  /// Attention and MLP both read the stream before the block, and both are added to it.
  bool parallel = false;
  MlpKind mlp = MlpKind::swiglu;
  Positions positions = Positions::rotary;
  Projections projections = Projections::separate;
  bool qkv_bias = false, attention_out_bias = false, mlp_bias = false;
  bool qk_norm = false;  ///< RMSNorm over the features of each query and key head
  /// Of the gate behind every norm of the residual stream, the last one included; 0: no gate. With
  /// y the norm's output a branch reads sigmoid(W_up silu(W_down y)) y, W_down [rank, D], W_up
  /// [D, rank]: GatedNorm of Qiu et al., "A Unified View of Attention and Residual Sinks" (arXiv
  /// 2601.22966), section 3.4, rank 16 there. Both matrices start as all others do, so that a gate
  /// starts near 1/2; the paper names no start.
  int64_t norm_gate_rank = 0;
  bool scaled_embedding = false;  ///< the embedding is multiplied by sqrt(d_model)
  WeightNames names;
};

}  // namespace weir
