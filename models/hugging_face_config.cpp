#include "models/hugging_face_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/json_text.h"
#include "models/hugging_face_defaults.h"
#include "models/hugging_face_keys.h"
#include "models/hugging_face_rope.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;

Architecture architecture_of(const std::string& model_type) {
  for (Architecture each : {Architecture::qwen2, Architecture::qwen3, Architecture::gpt2})
    if (model_type == architecture_name(each)) return each;
  return Architecture::llama;
}

Json gpt2_json(const ModelConfig& c) {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"n_layer", c.layers},
          {"n_embd", c.d_model},
          {"n_head", c.heads},
          {"n_inner", c.d_ff},
          {"n_positions", c.context},
          {"vocab_size", c.vocabulary},
          {"layer_norm_epsilon", c.rms_eps},
          {"activation_function", "gelu_new"},
          {"initializer_range", c.init_deviation},
          {"tie_word_embeddings", c.tied}};
}

Json llama_json(const ModelConfig& c) {
  const bool mistral = c.architecture == Architecture::llama && c.window > 0;
  const char* library_class = mistral                                 ? "MistralForCausalLM"
                              : c.architecture == Architecture::qwen2 ? "Qwen2ForCausalLM"
                              : c.architecture == Architecture::qwen3 ? "Qwen3ForCausalLM"
                                                                      : "LlamaForCausalLM";
  Json json = {{"architectures", {library_class}},
               {"model_type", mistral ? "mistral" : architecture_name(c.architecture)},
               {"num_hidden_layers", c.layers},
               {"hidden_size", c.d_model},
               {"num_attention_heads", c.heads},
               {"num_key_value_heads", c.kv_heads},
               {"head_dim", c.d_head},
               {"intermediate_size", c.d_ff},
               {"vocab_size", c.vocabulary},
               {"max_position_embeddings", c.context},
               {"rms_norm_eps", c.rms_eps},
               {"rope_theta", c.rope_base},
               {"rope_scaling", hugging_face_rope_scaling(c.rope_scaling)},
               {"hidden_act", "silu"},
               {"initializer_range", c.init_deviation},
               {"tie_word_embeddings", c.tied}};
  if (c.attention_bias) json["attention_bias"] = true;
  if (c.mlp_bias) json["mlp_bias"] = true;
  if (mistral || c.window > 0) json["sliding_window"] = c.window;
  if (!mistral && c.window > 0) {
    json["use_sliding_window"] = true;
    json["max_window_layers"] = 0;
  }
  return json;
}

}  // namespace

ModelConfig parse_hugging_face_config(const std::string& text, const std::string& where) {
  const Json json = parse_json<Json>(text, "config.json", where);
  if (!json.is_object()) user_error("config.json", "{} is no JSON object.", where);
  std::string model_type;
  auto type = json.find("model_type");
  if (type != json.end() && type->is_string()) model_type = type->get<std::string>();
  static const std::vector<std::string> types = {"llama", "mistral", "qwen2", "qwen3", "gpt2"};
  if (std::find(types.begin(), types.end(), model_type) == types.end())
    user_error("config.json", "{}: model_type is {}; implemented are {}.", where,
               type == json.end() ? "missing" : type->dump(), join(types, ", "));
  HuggingFaceReading r{json, hugging_face_defaults().at(model_type), model_type};
  r.config.architecture = architecture_of(model_type);
  r.config.name = model_type;
  read_hugging_face_keys(r);
  if (r.problems.empty()) {
    try {
      check_config(r.config);
    } catch (const UserError& error) {
      r.problem("{}", error.what());
    }
  }
  Problems problems("config.json");
  for (const std::string& problem : r.problems) problems.add(fmt::format("{}: {}", where, problem));
  problems.raise();
  for (std::string& note : r.config.notes) note = fmt::format("{}: {}", where, note);
  return resolved(r.config);
}

std::string hugging_face_config(const ModelConfig& config, const std::string& dtype) {
  const ModelConfig c = resolved(config);
  Json json = c.architecture == Architecture::gpt2 ? gpt2_json(c) : llama_json(c);
  json["torch_dtype"] = dtype;
  if (!c.rewrites.empty()) json["weir_rewrites"] = c.rewrites;
  return json.dump(2) + "\n";
}

}  // namespace weir
