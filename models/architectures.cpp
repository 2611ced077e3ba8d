// The table of architectures. A further one is a row here, and its defaults by
// tests/reference/config_defaults.py.
#include <string_view>

#include "ir/score_transform.h"
#include "models/architecture.h"
#include "support/error.h"

namespace weir {
namespace {

using C = ModelConfig;

// ---- Names of weights. ----

constexpr WeightNames kLlamaNames = {.base = "model.",
                                     .embedding = "model.embed_tokens",
                                     .layer = "model.layers.{}.",
                                     .attention_norm = "input_layernorm",
                                     .q = "self_attn.q_proj",
                                     .k = "self_attn.k_proj",
                                     .v = "self_attn.v_proj",
                                     .q_norm = "self_attn.q_norm",
                                     .k_norm = "self_attn.k_norm",
                                     .attention_out = "self_attn.o_proj",
                                     .attention_out_norm = "attention_out_layernorm",
                                     .mlp_norm = "post_attention_layernorm",
                                     .gate = "mlp.gate_proj",
                                     .up = "mlp.up_proj",
                                     .down = "mlp.down_proj",
                                     .mlp_out_norm = "mlp_out_layernorm",
                                     .final_norm = "model.norm"};

constexpr WeightNames kGemma2Names = {.base = "model.",
                                      .embedding = "model.embed_tokens",
                                      .layer = "model.layers.{}.",
                                      .attention_norm = "input_layernorm",
                                      .q = "self_attn.q_proj",
                                      .k = "self_attn.k_proj",
                                      .v = "self_attn.v_proj",
                                      .attention_out = "self_attn.o_proj",
                                      .attention_out_norm = "post_attention_layernorm",
                                      .mlp_norm = "pre_feedforward_layernorm",
                                      .gate = "mlp.gate_proj",
                                      .up = "mlp.up_proj",
                                      .down = "mlp.down_proj",
                                      .mlp_out_norm = "post_feedforward_layernorm",
                                      .final_norm = "model.norm"};

constexpr WeightNames kGpt2Names = {.base = "transformer.",
                                    .embedding = "transformer.wte",
                                    .positions = "transformer.wpe",
                                    .layer = "transformer.h.{}.",
                                    .attention_norm = "ln_1",
                                    .qkv = "attn.c_attn",
                                    .attention_out = "attn.c_proj",
                                    .mlp_norm = "ln_2",
                                    .up = "mlp.c_fc",
                                    .down = "mlp.c_proj",
                                    .final_norm = "transformer.ln_f"};

// llama.cpp has one name for what plays the same part in all of them.
constexpr WeightNames kGgufNames = {.embedding = "token_embd",
                                    .positions = "position_embd",
                                    .layer = "blk.{}.",
                                    .attention_norm = "attn_norm",
                                    .q = "attn_q",
                                    .k = "attn_k",
                                    .v = "attn_v",
                                    .qkv = "attn_qkv",
                                    .q_norm = "attn_q_norm",
                                    .k_norm = "attn_k_norm",
                                    .attention_out = "attn_output",
                                    .attention_out_norm = "post_attention_norm",
                                    .mlp_norm = "ffn_norm",
                                    .gate = "ffn_gate",
                                    .up = "ffn_up",
                                    .down = "ffn_down",
                                    .mlp_out_norm = "post_ffw_norm",
                                    .final_norm = "output_norm",
                                    .output = "output"};

// ---- Keys of configurations. ----

// clang-format off
const std::vector<ModelKey>& llama_keys() {
  static const std::vector<ModelKey> keys = {
      {"num_hidden_layers", "block_count", SizeKey{&C::layers, kMostLayers, true}, true},
      {"hidden_size", "embedding_length", SizeKey{&C::d_model, kMostWidth, true}, true},
      {"num_attention_heads", "attention.head_count", SizeKey{&C::heads, kMostHeads, true}, true},
      {"num_key_value_heads", "attention.head_count_kv", SizeKey{&C::kv_heads, kMostHeads, true}},
      {"head_dim", "attention.key_length", SizeKey{&C::d_head, kMostHeads, true}},
      {"intermediate_size", "feed_forward_length", SizeKey{&C::d_ff, kMostWidth, true}, true},
      {"vocab_size", "", SizeKey{&C::vocabulary, kMostWidth, true}},
      {"max_position_embeddings", "context_length", SizeKey{&C::context, kMostContext}, true},
      {"rms_norm_eps", "attention.layer_norm_rms_epsilon", NumberKey{&C::rms_eps}, true},
      {"rope_theta", "rope.freq_base", TogetherKey::rope_base},
      {"rope_scaling", "", TogetherKey::rope_scaling},
      {"rope_parameters", "", TogetherKey::read_only},
      {"partial_rotary_factor", "", TogetherKey::read_only},
      {"original_max_position_embeddings", "", TogetherKey::read_only},
      {"hidden_act", "", WordKey{{"silu", "swish"}}},
      {"initializer_range", "", NumberKey{&C::init_deviation}},
      {"tie_word_embeddings", "", FlagKey{&C::tied}},
      {"attention_bias", "", BiasKey{&C::attention_bias}},
      {"mlp_bias", "", BiasKey{&C::mlp_bias}},
      {"sliding_window", "attention.sliding_window", TogetherKey::window},
      {"use_sliding_window", "", TogetherKey::read_only},
      {"max_window_layers", "", TogetherKey::read_only},
      {"layer_types", "", TogetherKey::read_only},
  };
  return keys;
}

std::vector<ModelKey> qwen3_keys() {
  std::vector<ModelKey> keys = llama_keys();
  const std::vector<ModelKey> own = {
      {"headwise_attn_output_gate", "", GateKey{OutputGate::head}},
      {"elementwise_attn_output_gate", "", GateKey{OutputGate::element}},
      {"use_qk_norm", "", FixedKey{true}},
  };
  keys.insert(keys.end(), own.begin(), own.end());
  return keys;
}

std::vector<ModelKey> gemma2_keys() {
  std::vector<ModelKey> keys = llama_keys();
  std::erase_if(keys, [](const ModelKey& key) { return std::string_view(key.hugging_face) == "hidden_act"; });
  const std::vector<ModelKey> own = {
      {"hidden_activation", "", WordKey{{"gelu_pytorch_tanh"}}},
      {"query_pre_attn_scalar", "", SizeKey{&C::score_width, kMostWidth}},
      {"attn_logit_softcapping", "attn_logit_softcapping", NumberKey{&C::score_cap, kLeastCap, kMostCap}},
      {"final_logit_softcapping", "final_logit_softcapping", NumberKey{&C::logit_cap, kLeastCap, kMostCap}},
      {"use_bidirectional_attention", "", FixedKey{false}},
      // Published beside the keys that count, and read by nothing.
      {"hidden_act", "", TogetherKey::read_only}, {"cache_implementation", "", TogetherKey::read_only},
      {"sliding_window_size", "", TogetherKey::read_only},
  };
  keys.insert(keys.end(), own.begin(), own.end());
  return keys;
}

// llama.cpp knows the one published model whose scores are scaled by d_model / heads by its layers.
void derive_gemma2(ModelConfig& c) {
  constexpr int64_t layers_of_27b = 46;
  if (c.layers == layers_of_27b && c.heads > 0) c.score_width = c.d_model / c.heads;
}

const std::vector<ModelKey>& gpt2_keys() {
  static const std::vector<ModelKey> keys = {
      {"n_layer", "block_count", SizeKey{&C::layers, kMostLayers, true}, true},
      {"n_embd", "embedding_length", SizeKey{&C::d_model, kMostWidth, true}, true},
      {"n_head", "attention.head_count", SizeKey{&C::heads, kMostHeads, true}, true},
      {"", "attention.head_count_kv", SizeKey{&C::kv_heads, kMostHeads}},
      {"", "attention.key_length", SizeKey{&C::d_head, kMostHeads}},
      {"n_inner", "feed_forward_length", SizeKey{&C::d_ff, kMostWidth, false, 4}, true},
      {"n_positions", "context_length", SizeKey{&C::context, kMostWidth, true}, true},
      {"n_ctx", "", UnreadKey{&C::context, "n_positions"}},
      {"vocab_size", "", SizeKey{&C::vocabulary, kMostWidth, true}},
      {"layer_norm_epsilon", "attention.layer_norm_epsilon", NumberKey{&C::rms_eps}, true},
      {"activation_function", "", WordKey{{"gelu_new", "gelu_pytorch_tanh", "gelu_fast"}}},
      {"initializer_range", "", NumberKey{&C::init_deviation}},
      {"tie_word_embeddings", "", FlagKey{&C::tied}},
      {"scale_attn_weights", "", FixedKey{true}},
      {"scale_attn_by_inverse_layer_idx", "", FixedKey{false}},
      {"add_cross_attention", "", FixedKey{false}},
  };
  return keys;
}
// clang-format on

// ---- The table. ----

std::vector<Architecture> table() {
  return {
      // RMSNorm, rotary embedding, grouped queries, SwiGLU. SmolLM2 is one, too.
      {.name = "llama",
       .title = "Llama",
       .block = {.names = kLlamaNames},
       .chooses_attention_bias = true,
       .chooses_mlp_bias = true,
       .gguf_neighbours = true,
       .types = {{"llama", "LlamaForCausalLM"}, {"mistral", "MistralForCausalLM", true}},
       .keys = llama_keys(),
       .computed_tables = {"*rotary_emb.inv_freq"},
       .gguf_names = kGgufNames},
      // The same with biases on the projections to q, k and v.
      {.name = "qwen2",
       .title = "Qwen2",
       .block = {.qkv_bias = true, .names = kLlamaNames},
       .types = {{"qwen2", "Qwen2ForCausalLM"}},
       .keys = llama_keys(),
       .computed_tables = {"*rotary_emb.inv_freq"},
       .gguf_names = kGgufNames},
      // A Llama with RMSNorm over the features of each query and key head.
      {.name = "qwen3",
       .title = "Qwen3",
       .block = {.qk_norm = true, .names = kLlamaNames},
       .chooses_attention_bias = true,
       .types = {{"qwen3", "Qwen3ForCausalLM"}},
       .keys = qwen3_keys(),
       .computed_tables = {"*rotary_emb.inv_freq"},
       .gguf_names = kGgufNames},
      // Norms with gains 1 + w before and behind each branch, soft caps, an embedding that is
      // scaled.
      {.name = "gemma2",
       .title = "Gemma 2",
       .block = {.norm = NormKind::rms_plus_one,
                 .norm_place = NormPlace::around,
                 .mlp = MlpKind::geglu,
                 .scaled_embedding = true,
                 .names = kGemma2Names},
       .chooses_attention_bias = true,
       .types = {{"gemma2", "Gemma2ForCausalLM"}},
       .keys = gemma2_keys(),
       .computed_tables = {"*rotary_emb.inv_freq"},
       .gguf_names = kGgufNames,
       .gguf_start = {.score_cap = 50, .logit_cap = 30, .window = 4096},
       .gguf_derived = derive_gemma2},
      {.name = "gpt2",
       .title = "GPT-2",
       .block = {.norm = NormKind::layer,
                 .mlp = MlpKind::gelu,
                 .positions = Positions::learned,
                 .projections = Projections::joint,
                 .qkv_bias = true,
                 .attention_out_bias = true,
                 .mlp_bias = true,
                 .names = kGpt2Names},
       .full_heads = true,
       .types = {{"gpt2", "GPT2LMHeadModel"}},
       .keys = gpt2_keys(),
       .computed_tables = {"{transformer.,}h.*.attn.bias", "{transformer.,}h.*.attn.masked_bias"},
       .gguf_names = kGgufNames},
  };
}

}  // namespace

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> all = table();
  return all;
}

const Architecture& architecture_of(const ModelConfig& config) {
  for (const Architecture& each : architectures())
    if (each.name == config.architecture) return each;
  internal_error_at("unknown architecture " + config.architecture);
}

namespace {

NormPlace norm_place(const ModelConfig& config, NormPlace of_architecture) {
  if (config.norm_place == "pre") return of_architecture;
  if (config.norm_place == "post") return NormPlace::after;
  if (config.norm_place == "sandwich") return NormPlace::around;
  if (config.norm_place == "none") return NormPlace::none;
  internal_error_at("unknown norm place " + config.norm_place);
}

}  // namespace

BlockDescription block_description(const ModelConfig& config) {
  const Architecture& architecture = architecture_of(config);
  BlockDescription block = architecture.block;
  block.norm_place = norm_place(config, block.norm_place);
  block.norm_gate_rank = config.norm_gate;
  if (architecture.chooses_attention_bias && config.attention_bias)
    block.qkv_bias = block.attention_out_bias = true;
  if (architecture.chooses_mlp_bias && config.mlp_bias) block.mlp_bias = true;
  return block;
}

}  // namespace weir
