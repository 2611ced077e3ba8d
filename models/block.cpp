#include "models/block.h"

#include "support/error.h"

namespace weir {
namespace {

constexpr WeightNames kLlamaNames = {.embedding = "model.embed_tokens",
                                     .layer = "model.layers.{}.",
                                     .attention_norm = "input_layernorm",
                                     .q = "self_attn.q_proj",
                                     .k = "self_attn.k_proj",
                                     .v = "self_attn.v_proj",
                                     .q_norm = "self_attn.q_norm",
                                     .k_norm = "self_attn.k_norm",
                                     .attention_out = "self_attn.o_proj",
                                     .mlp_norm = "post_attention_layernorm",
                                     .gate = "mlp.gate_proj",
                                     .up = "mlp.up_proj",
                                     .down = "mlp.down_proj",
                                     .final_norm = "model.norm"};

constexpr WeightNames kGpt2Names = {.embedding = "transformer.wte",
                                    .positions = "transformer.wpe",
                                    .layer = "transformer.h.{}.",
                                    .attention_norm = "ln_1",
                                    .qkv = "attn.c_attn",
                                    .attention_out = "attn.c_proj",
                                    .mlp_norm = "ln_2",
                                    .up = "mlp.c_fc",
                                    .down = "mlp.c_proj",
                                    .final_norm = "transformer.ln_f"};

}  // namespace

BlockDescription block_description(const ModelConfig& c) {
  switch (c.architecture) {
    case Architecture::llama:
      return {.qkv_bias = c.attention_bias,
              .attention_out_bias = c.attention_bias,
              .mlp_bias = c.mlp_bias,
              .names = kLlamaNames};
    case Architecture::qwen2:
      return {.qkv_bias = true,
              .attention_out_bias = c.attention_bias,
              .mlp_bias = c.mlp_bias,
              .names = kLlamaNames};
    case Architecture::qwen3:
      return {.qkv_bias = c.attention_bias,
              .attention_out_bias = c.attention_bias,
              .mlp_bias = c.mlp_bias,
              .qk_norm = true,
              .names = kLlamaNames};
    case Architecture::gpt2:
      return {.norm = NormKind::layer,
              .mlp = MlpKind::gelu,
              .positions = Positions::learned,
              .projections = Projections::joint,
              .qkv_bias = true,
              .attention_out_bias = true,
              .mlp_bias = true,
              .names = kGpt2Names};
  }
  internal_error_at("unknown architecture");
}

}  // namespace weir
