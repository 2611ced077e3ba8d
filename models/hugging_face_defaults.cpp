// Made by tests/reference/config_defaults.py from transformers 5.23.0.
#include "models/hugging_face_defaults.h"

#include <nlohmann/json.hpp>

namespace weir {
namespace {

constexpr const char* kTable = R"json({
 "llama": {
  "defaults": {
   "attention_bias": false,
   "attention_dropout": 0.0,
   "bos_token_id": 1,
   "eos_token_id": 2,
   "head_dim": null,
   "hidden_act": "silu",
   "hidden_size": 4096,
   "initializer_range": 0.02,
   "intermediate_size": 11008,
   "max_position_embeddings": 2048,
   "mlp_bias": false,
   "num_attention_heads": 32,
   "num_hidden_layers": 32,
   "num_key_value_heads": null,
   "pad_token_id": null,
   "pretraining_tp": 1,
   "rms_norm_eps": 1e-06,
   "rope_parameters": null,
   "rope_theta": 10000.0,
   "tie_word_embeddings": false,
   "use_cache": true,
   "vocab_size": 32000
  },
  "nullable": [
   "attention_dropout",
   "bos_token_id",
   "eos_token_id",
   "head_dim",
   "num_key_value_heads",
   "pad_token_id",
   "pretraining_tp",
   "rope_parameters"
  ],
  "aliases": {}
 },
 "mistral": {
  "defaults": {
   "attention_dropout": 0.0,
   "bos_token_id": 1,
   "eos_token_id": 2,
   "head_dim": null,
   "hidden_act": "silu",
   "hidden_size": 4096,
   "initializer_range": 0.02,
   "intermediate_size": 14336,
   "max_position_embeddings": 131072,
   "num_attention_heads": 32,
   "num_hidden_layers": 32,
   "num_key_value_heads": 8,
   "pad_token_id": null,
   "rms_norm_eps": 1e-06,
   "rope_parameters": null,
   "rope_theta": 10000.0,
   "sliding_window": 4096,
   "tie_word_embeddings": false,
   "use_cache": true,
   "vocab_size": 32000
  },
  "nullable": [
   "bos_token_id",
   "eos_token_id",
   "head_dim",
   "pad_token_id",
   "rope_parameters",
   "sliding_window"
  ],
  "aliases": {}
 },
 "qwen2": {
  "defaults": {
   "attention_dropout": 0.0,
   "bos_token_id": null,
   "eos_token_id": null,
   "hidden_act": "silu",
   "hidden_size": 4096,
   "initializer_range": 0.02,
   "intermediate_size": 22016,
   "layer_types": null,
   "max_position_embeddings": 32768,
   "max_window_layers": 28,
   "num_attention_heads": 32,
   "num_hidden_layers": 32,
   "num_key_value_heads": 32,
   "pad_token_id": null,
   "rms_norm_eps": 1e-06,
   "rope_parameters": null,
   "rope_theta": 10000.0,
   "sliding_window": 4096,
   "tie_word_embeddings": false,
   "use_cache": true,
   "use_sliding_window": false,
   "vocab_size": 151936
  },
  "nullable": [
   "bos_token_id",
   "eos_token_id",
   "layer_types",
   "num_key_value_heads",
   "pad_token_id",
   "rope_parameters",
   "sliding_window"
  ],
  "aliases": {}
 },
 "qwen3": {
  "defaults": {
   "attention_bias": false,
   "attention_dropout": 0.0,
   "bos_token_id": null,
   "eos_token_id": null,
   "head_dim": 128,
   "hidden_act": "silu",
   "hidden_size": 4096,
   "initializer_range": 0.02,
   "intermediate_size": 22016,
   "layer_types": null,
   "max_position_embeddings": 32768,
   "max_window_layers": 28,
   "num_attention_heads": 32,
   "num_hidden_layers": 32,
   "num_key_value_heads": 32,
   "pad_token_id": null,
   "rms_norm_eps": 1e-06,
   "rope_parameters": null,
   "rope_theta": 10000.0,
   "sliding_window": 4096,
   "tie_word_embeddings": false,
   "use_cache": true,
   "use_sliding_window": false,
   "vocab_size": 151936
  },
  "nullable": [
   "bos_token_id",
   "eos_token_id",
   "layer_types",
   "num_key_value_heads",
   "pad_token_id",
   "rope_parameters",
   "sliding_window"
  ],
  "aliases": {}
 },
 "gemma2": {
  "defaults": {
   "attention_bias": false,
   "attention_dropout": 0.0,
   "attn_logit_softcapping": 50.0,
   "bos_token_id": 2,
   "eos_token_id": 1,
   "final_logit_softcapping": 30.0,
   "head_dim": 256,
   "hidden_activation": "gelu_pytorch_tanh",
   "hidden_size": 2304,
   "initializer_range": 0.02,
   "intermediate_size": 9216,
   "layer_types": null,
   "max_position_embeddings": 8192,
   "num_attention_heads": 8,
   "num_hidden_layers": 26,
   "num_key_value_heads": 4,
   "pad_token_id": 0,
   "query_pre_attn_scalar": 256,
   "rms_norm_eps": 1e-06,
   "rope_parameters": null,
   "rope_theta": 10000.0,
   "sliding_window": 4096,
   "tie_word_embeddings": true,
   "use_bidirectional_attention": null,
   "use_cache": true,
   "vocab_size": 256000
  },
  "nullable": [
   "attention_dropout",
   "attn_logit_softcapping",
   "bos_token_id",
   "eos_token_id",
   "final_logit_softcapping",
   "layer_types",
   "pad_token_id",
   "rope_parameters",
   "sliding_window",
   "use_bidirectional_attention"
  ],
  "aliases": {}
 },
 "gpt2": {
  "defaults": {
   "activation_function": "gelu_new",
   "add_cross_attention": false,
   "attn_pdrop": 0.1,
   "bos_token_id": 50256,
   "embd_pdrop": 0.1,
   "eos_token_id": 50256,
   "initializer_range": 0.02,
   "layer_norm_epsilon": 1e-05,
   "n_embd": 768,
   "n_head": 12,
   "n_inner": null,
   "n_layer": 12,
   "n_positions": 1024,
   "pad_token_id": null,
   "reorder_and_upcast_attn": false,
   "resid_pdrop": 0.1,
   "scale_attn_by_inverse_layer_idx": false,
   "scale_attn_weights": true,
   "summary_activation": null,
   "summary_first_dropout": 0.1,
   "summary_proj_to_labels": true,
   "summary_type": "cls_index",
   "summary_use_proj": true,
   "tie_word_embeddings": true,
   "use_cache": true,
   "vocab_size": 50257
  },
  "nullable": [
   "bos_token_id",
   "eos_token_id",
   "n_inner",
   "pad_token_id",
   "summary_activation"
  ],
  "aliases": {
   "hidden_size": "n_embd",
   "max_position_embeddings": "n_positions",
   "num_attention_heads": "n_head",
   "num_hidden_layers": "n_layer"
  }
 },
 "generation": [
  "assistant_confidence_threshold",
  "assistant_lookbehind",
  "bad_words_ids",
  "begin_suppress_tokens",
  "diversity_penalty",
  "do_sample",
  "early_stopping",
  "encoder_no_repeat_ngram_size",
  "encoder_repetition_penalty",
  "epsilon_cutoff",
  "eta_cutoff",
  "exponential_decay_length_penalty",
  "forced_bos_token_id",
  "forced_eos_token_id",
  "length_penalty",
  "max_length",
  "min_length",
  "no_repeat_ngram_size",
  "num_assistant_tokens",
  "num_assistant_tokens_schedule",
  "num_beam_groups",
  "num_beams",
  "num_return_sequences",
  "output_scores",
  "remove_invalid_values",
  "repetition_penalty",
  "return_dict_in_generate",
  "suppress_tokens",
  "target_lookbehind",
  "temperature",
  "top_k",
  "top_p",
  "typical_p",
  "use_cache"
 ]
})json";

}  // namespace

const nlohmann::ordered_json& hugging_face_defaults() {
  static const auto table = nlohmann::ordered_json::parse(kTable);
  return table;
}

}  // namespace weir
