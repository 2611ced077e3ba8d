#pragma once
// The model configurations that several tests build.
#include "models/config.h"

namespace weir::test {

/// Two key heads of two query heads each; no two extents that a test could confuse are equal but
/// for heads and features a head.
inline ModelConfig small_model(int64_t layers = 2) {
  return {.layers = layers,
          .d_model = 16,
          .heads = 4,
          .kv_heads = 2,
          .d_head = 4,
          .d_ff = 24,
          .vocabulary = 11};
}

/// The same with as little arithmetic as there can be.
inline ModelConfig tiny_model() {
  return {.name = "small",
          .layers = 2,
          .d_model = 8,
          .heads = 4,
          .kv_heads = 2,
          .d_head = 2,
          .d_ff = 6,
          .vocabulary = 7};
}

/// Of a model case of tests/data/reference: JSON with the keys of Hugging Face.
template <typename Json>
ModelConfig reference_config(const Json& json) {
  ModelConfig config;
  json.at("num_hidden_layers").get_to(config.layers);
  json.at("hidden_size").get_to(config.d_model);
  json.at("num_attention_heads").get_to(config.heads);
  json.at("num_key_value_heads").get_to(config.kv_heads);
  json.at("head_dim").get_to(config.d_head);
  json.at("intermediate_size").get_to(config.d_ff);
  json.at("vocab_size").get_to(config.vocabulary);
  json.at("rms_norm_eps").get_to(config.rms_eps);
  json.at("rope_theta").get_to(config.rope_base);
  json.at("tie_word_embeddings").get_to(config.tied);
  return config;
}

}  // namespace weir::test
