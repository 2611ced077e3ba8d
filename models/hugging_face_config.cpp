#include "models/hugging_face_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "io/json_depth.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;

// Beyond these no model exists, and products of sizes stay within 63 bits.
constexpr int64_t kMostLayers = 4096, kMostHeads = 1 << 16, kMostWidth = 1 << 24;

// What is read besides the configuration itself.
struct Reading {
  ModelConfig config;
  std::string model_type;
  int64_t sliding_window = 0;
  bool use_sliding_window = false;
  std::vector<std::string> problems;

  template <typename... Args>
  void problem(fmt::format_string<Args...> format, Args&&... args) {
    problems.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
};

using Read = std::function<void(Reading&, const std::string& key, const Json& value)>;

Read size(int64_t ModelConfig::* member, int64_t most, bool null_allowed = false) {
  return [=](Reading& r, const std::string& key, const Json& value) {
    if (value.is_null() && null_allowed) {
      r.config.*member = 0;
    } else if (!value.is_number_unsigned() || value.get<uint64_t>() < 1 ||
               value.get<uint64_t>() > static_cast<uint64_t>(most)) {
      r.problem("{} is {}; an integer from 1 to {} is needed.", key, value.dump(), most);
    } else {
      r.config.*member = value.get<int64_t>();
    }
  };
}

void read_number(Reading& r, const std::string& key, const Json& value, double& number) {
  if (value.is_number() && std::isfinite(value.get<double>()) && value.get<double>() >= 0)
    number = value.get<double>();
  else
    r.problem("{} is {}; a number >= 0 is needed.", key, value.dump());
}

Read number(double ModelConfig::* member) {
  return [=](Reading& r, const std::string& key, const Json& value) {
    read_number(r, key, value, r.config.*member);
  };
}

void read_flag(Reading& r, const std::string& key, const Json& value, bool& flag) {
  if (value.is_boolean())
    flag = value.get<bool>();
  else
    r.problem("{} is {}; true or false is needed.", key, value.dump());
}

// Any other value would make another model.
Read one_of(std::vector<Json> allowed) {
  return [allowed = std::move(allowed)](Reading& r, const std::string& key, const Json& value) {
    if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
    std::vector<std::string> texts;
    for (const Json& each : allowed) texts.push_back(each.dump());
    r.problem("{} is {}, which is not implemented; {} is.", key, value.dump(), join(texts, " or "));
  };
}

void ignored(Reading&, const std::string&, const Json&) {}

// The four numbers of `rope_type` llama3.
void read_llama3(Reading& r, const std::string& key, const Json& value) {
  RopeScaling& s = r.config.rope_scaling;
  auto get = [&](const char* name, double& number) {
    if (auto found = value.find(name); found != value.end())
      read_number(r, key + "." + name, *found, number);
    else
      r.problem("{} lacks {}, which rope_type llama3 needs.", key, name);
  };
  double context = 0;
  get("factor", s.factor);
  get("low_freq_factor", s.low);
  get("high_freq_factor", s.high);
  get("original_max_position_embeddings", context);
  s.context = context <= kMostWidth ? static_cast<int64_t>(context) : 0;
}

// `rope_scaling` and its newer form `rope_parameters`, which holds rope_theta, too.
void read_rope(Reading& r, const std::string& key, const Json& value) {
  if (value.is_null()) return;
  if (!value.is_object()) return r.problem("{} is {}; an object is needed.", key, value.dump());
  std::string type = "default";
  static const std::vector<std::string> llama3 = {"factor", "low_freq_factor", "high_freq_factor",
                                                  "original_max_position_embeddings"};
  for (const auto& [name, entry] : value.items()) {
    if (name == "rope_type" || name == "type")
      type = entry.is_string() ? entry.get<std::string>() : entry.dump();
    else if (name == "rope_theta")
      read_number(r, key + ".rope_theta", entry, r.config.rope_base);
    else if (name == "partial_rotary_factor")
      one_of({1.0})(r, fmt::format("{}.{}", key, name), entry);
    else if (std::find(llama3.begin(), llama3.end(), name) == llama3.end())
      r.problem("{}.{} is not known.", key, name);
  }
  if (type == "llama3")
    read_llama3(r, key, value);
  else if (type != "default")
    r.problem("{} is of type {}, which is not implemented; default and llama3 are.", key, type);
}

void read_layer_types(Reading& r, const std::string& key, const Json& value) {
  if (value.is_null()) return;
  for (const Json& type : value)
    if (type != "full_attention" && type != "sliding_attention")
      return r.problem("{} has {}; full_attention and sliding_attention are implemented.", key,
                       type.dump());
}

void read_window(Reading& r, const std::string& key, const Json& value) {
  if (value.is_null()) return;
  if (!value.is_number_unsigned() || value.get<uint64_t>() > kMostWidth)
    return r.problem("{} is {}; an integer from 0 to {} is needed.", key, value.dump(), kMostWidth);
  r.sliding_window = value.get<int64_t>();
}

// What Weir adds to the configuration of a model that it trained.
void read_rewrites(Reading& r, const std::string& key, const Json& value) {
  for (const auto& [name, setting] : value.items()) {
    if (value.is_object() && setting.is_string())
      r.config.rewrites[name] = setting.get<std::string>();
    else
      r.problem("{}: {} is {}; a text is needed.", key, name, setting.dump());
  }
}

struct Key {
  const char* name;
  Read read;
};

// clang-format off
// Every key that is understood. The rest is refused, since it might change the model.
const std::vector<Key>& llama_keys() {
  using C = ModelConfig;
  static const std::vector<Key> keys = {
      {"num_hidden_layers", size(&C::layers, kMostLayers)},
      {"hidden_size", size(&C::d_model, kMostWidth)},
      {"num_attention_heads", size(&C::heads, kMostHeads)},
      {"num_key_value_heads", size(&C::kv_heads, kMostHeads, true)},
      {"head_dim", size(&C::d_head, kMostHeads, true)},
      {"intermediate_size", size(&C::d_ff, kMostWidth)},
      {"vocab_size", size(&C::vocabulary, kMostWidth)},
      {"max_position_embeddings", size(&C::context, 1LL << 40)},
      {"rms_norm_eps", number(&C::rms_eps)},
      {"rope_theta", number(&C::rope_base)},
      {"initializer_range", number(&C::init_deviation)},
      {"tie_word_embeddings", [](Reading& r, const std::string& k, const Json& v) { read_flag(r, k, v, r.config.tied); }},
      {"rope_scaling", read_rope},
      {"rope_parameters", read_rope},
      {"sliding_window", read_window},
      {"use_sliding_window", [](Reading& r, const std::string& k, const Json& v) { read_flag(r, k, v, r.use_sliding_window); }},
      {"layer_types", read_layer_types},
      {"hidden_act", one_of({"silu", "swish"})},
      {"attention_bias", one_of({false})},
      {"mlp_bias", one_of({false})},
      {"partial_rotary_factor", one_of({1.0})},
      {"rope_interleaved", one_of({false})},
      {"max_window_layers", ignored},  // which layers the window is for
      {"pretraining_tp", ignored},     // how products were cut, not what they are
      {"is_llama_config", ignored},
  };
  return keys;
}

const std::vector<Key>& gpt2_keys() {
  using C = ModelConfig;
  static const std::vector<Key> keys = {
      {"n_layer", size(&C::layers, kMostLayers)},
      {"n_embd", size(&C::d_model, kMostWidth)},
      {"n_head", size(&C::heads, kMostHeads)},
      {"n_inner", size(&C::d_ff, kMostWidth, true)},
      {"n_positions", size(&C::context, kMostWidth)},
      {"vocab_size", size(&C::vocabulary, kMostWidth)},
      {"layer_norm_epsilon", number(&C::rms_eps)},
      {"initializer_range", number(&C::init_deviation)},
      {"tie_word_embeddings", [](Reading& r, const std::string& k, const Json& v) { read_flag(r, k, v, r.config.tied); }},
      {"activation_function", one_of({"gelu_new", "gelu_pytorch_tanh"})},
      {"scale_attn_weights", one_of({true})},
      {"scale_attn_by_inverse_layer_idx", one_of({false})},
      {"add_cross_attention", one_of({false})},
      {"reorder_and_upcast_attn", ignored},  // a matter of rounding
      {"n_ctx", ignored},                    // an older name of n_positions
      {"resid_pdrop", ignored}, {"embd_pdrop", ignored}, {"attn_pdrop", ignored},
      {"summary_activation", ignored}, {"summary_first_dropout", ignored},
      {"summary_proj_to_labels", ignored}, {"summary_type", ignored}, {"summary_use_proj", ignored},
  };
  return keys;
}

// Keys of every model that say nothing of its computation: names, versions, generation, training.
const std::vector<Key>& common_keys() {
  static const std::vector<Key> keys = {
      {"model_type", ignored}, {"architectures", ignored}, {"_name_or_path", ignored},
      {"name_or_path", ignored}, {"transformers_version", ignored}, {"transformers.js_config", ignored},
      {"torch_dtype", ignored}, {"dtype", ignored}, {"use_cache", ignored},
      {"bos_token_id", ignored}, {"eos_token_id", ignored}, {"pad_token_id", ignored},
      {"sep_token_id", ignored}, {"cls_token_id", ignored}, {"decoder_start_token_id", ignored},
      {"attention_dropout", ignored}, {"hidden_dropout", ignored}, {"dropout", ignored},
      {"task_specific_params", ignored}, {"problem_type", ignored}, {"id2label", ignored},
      {"label2id", ignored}, {"output_attentions", ignored}, {"output_hidden_states", ignored},
      {"return_dict", ignored}, {"torchscript", ignored}, {"gradient_checkpointing", ignored},
      {"chunk_size_feed_forward", ignored}, {"_attn_implementation", ignored},
      {"_attn_implementation_autoset", ignored}, {"attn_implementation", ignored},
      {"unsloth_version", ignored}, {"unsloth_fixed", ignored},
      {"is_decoder", ignored}, {"is_encoder_decoder", one_of({false})},
      {"cross_attention_hidden_size", one_of({nullptr})},
      {"quantization_config", one_of({nullptr})},
      {"weir_rewrites", read_rewrites},
  };
  return keys;
}
// clang-format on

const Key* find(const std::vector<Key>& keys, const std::string& name) {
  for (const Key& key : keys)
    if (key.name == name) return &key;
  return nullptr;
}

// What `transformers` takes for keys that a file leaves out.
ModelConfig library_defaults(const std::string& model_type) {
  ModelConfig c;
  c.architecture = model_type == "gpt2"    ? Architecture::gpt2
                   : model_type == "qwen2" ? Architecture::qwen2
                   : model_type == "qwen3" ? Architecture::qwen3
                                           : Architecture::llama;
  c.name = model_type;
  c.layers = c.d_model = c.heads = c.d_ff = c.vocabulary = 0;
  c.rms_eps = 1e-6;
  c.context = 2048;
  if (model_type == "mistral") c.kv_heads = 8;
  if (model_type == "qwen2" || model_type == "qwen3") c.kv_heads = 32;
  if (model_type == "qwen3") c.d_head = 128;
  if (model_type == "gpt2") {
    c.rms_eps = 1e-5;
    c.context = 1024;
    c.tied = true;
  }
  return c;
}

void check_required(const Json& json, bool gpt2, Reading& r) {
  const std::vector<const char*> llama = {"num_hidden_layers", "hidden_size", "num_attention_heads",
                                          "intermediate_size", "vocab_size"};
  for (const char* key :
       gpt2 ? std::vector<const char*>{"n_layer", "n_embd", "n_head", "vocab_size"} : llama)
    if (!json.contains(key)) r.problem("{} is missing.", key);
}

void read_keys(const Json& json, bool gpt2, Reading& r) {
  const std::vector<Key>& own = gpt2 ? gpt2_keys() : llama_keys();
  std::vector<std::string> unknown;
  for (const auto& [name, value] : json.items()) {
    const Key* key = find(own, name);
    if (!key) key = find(common_keys(), name);
    if (key)
      key->read(r, name, value);
    else
      unknown.push_back(name);
  }
  if (!unknown.empty())
    r.problem(
        "unknown keys, which might change the model: {}. Remove those that do not concern the "
        "computation.",
        join(unknown, ", "));
}

void settle_window(Reading& r) {
  if (r.model_type == "mistral" || r.use_sliding_window) r.config.window = r.sliding_window;
}

Json rope_scaling_json(const RopeScaling& s) {
  if (s.factor == 1) return nullptr;
  return {{"rope_type", "llama3"},
          {"factor", s.factor},
          {"low_freq_factor", s.low},
          {"high_freq_factor", s.high},
          {"original_max_position_embeddings", s.context}};
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
               {"rope_scaling", rope_scaling_json(c.rope_scaling)},
               {"hidden_act", "silu"},
               {"initializer_range", c.init_deviation},
               {"tie_word_embeddings", c.tied}};
  if (mistral || c.window > 0) json["sliding_window"] = c.window;
  if (!mistral && c.window > 0) {
    json["use_sliding_window"] = true;
    json["max_window_layers"] = 0;
  }
  return json;
}

}  // namespace

ModelConfig parse_hugging_face_config(const std::string& text, const std::string& where) {
  const Json json =
      json_is_shallow(text) ? Json::parse(text, nullptr, false) : Json(Json::value_t::discarded);
  if (!json.is_object()) user_error("config.json", "{} is no JSON object.", where);
  Reading r;
  auto type = json.find("model_type");
  if (type != json.end() && type->is_string()) r.model_type = type->get<std::string>();
  static const std::vector<std::string> types = {"llama", "mistral", "qwen2", "qwen3", "gpt2"};
  if (std::find(types.begin(), types.end(), r.model_type) == types.end())
    user_error("config.json", "{}: model_type is {}; implemented are {}.", where,
               type == json.end() ? "missing" : type->dump(), join(types, ", "));
  r.config = library_defaults(r.model_type);
  const bool gpt2 = r.config.architecture == Architecture::gpt2;
  read_keys(json, gpt2, r);
  check_required(json, gpt2, r);
  settle_window(r);
  if (gpt2 && r.config.d_ff == 0) r.config.d_ff = 4 * r.config.d_model;
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
