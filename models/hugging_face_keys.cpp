#include "models/hugging_face_keys.h"

#include <algorithm>
#include <functional>

#include "models/hugging_face_defaults.h"
#include "models/hugging_face_rope.h"
#include "support/text.h"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;
using Reading = HuggingFaceReading;
using Read = std::function<void(Reading&, const std::string& key, const Json& value)>;

Read size(int64_t ModelConfig::* member, int64_t most) {
  return [=](Reading& r, const std::string& key, const Json& value) {
    if (value.is_null())  // where it may be: another size says it
      r.config.*member = 0;
    else
      r.read_size(key, value, most, r.config.*member);
  };
}

Read number(double ModelConfig::* member) {
  return [=](Reading& r, const std::string& key, const Json& value) {
    r.read_number(key, value, r.config.*member);
  };
}

Read flag(bool ModelConfig::* member) {
  return [=](Reading& r, const std::string& key, const Json& value) {
    r.read_flag(key, value, r.config.*member);
  };
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

// Where another file would leave it out, or say null.
Read absent_or(std::vector<Json> allowed) {
  allowed.emplace_back(nullptr);
  return one_of(std::move(allowed));
}

void ignored(Reading&, const std::string&, const Json&) {}

// A key that seems to change the model, but that the library does not read.
void passed_over(Reading& r, const std::string& key, const Json& value) {
  if (!value.is_null() && value != false)
    r.note("{} is passed over: transformers does not read it in a model of type {}.", key,
           r.model_type);
}

// Biases, of the model types that have a choice.
Read bias(bool ModelConfig::* member) {
  return [=](Reading& r, const std::string& key, const Json& value) {
    if (r.library.at("defaults").contains(key))
      r.read_flag(key, value, r.config.*member);
    else
      passed_over(r, key, value);
  };
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
  bool shapes = false;  ///< a size of weights
};

// clang-format off
// The keys that a model is made of.
const std::vector<Key>& llama_keys() {
  using C = ModelConfig;
  static const std::vector<Key> keys = {
      {"num_hidden_layers", size(&C::layers, kMostLayers), true},
      {"hidden_size", size(&C::d_model, kMostWidth), true},
      {"num_attention_heads", size(&C::heads, kMostHeads), true},
      {"num_key_value_heads", size(&C::kv_heads, kMostHeads), true},
      {"head_dim", size(&C::d_head, kMostHeads), true},
      {"intermediate_size", size(&C::d_ff, kMostWidth), true},
      {"vocab_size", size(&C::vocabulary, kMostWidth), true},
      {"max_position_embeddings", size(&C::context, kMostContext)},
      {"rms_norm_eps", number(&C::rms_eps)},
      {"initializer_range", number(&C::init_deviation)},
      {"tie_word_embeddings", flag(&C::tied)},
      {"attention_bias", bias(&C::attention_bias)},
      {"mlp_bias", bias(&C::mlp_bias)},
      {"hidden_act", one_of({"silu", "swish"})},
      // Read together, once the sizes are known.
      {"rope_theta", ignored}, {"rope_scaling", ignored}, {"rope_parameters", ignored},
      {"partial_rotary_factor", ignored}, {"original_max_position_embeddings", ignored},
      {"sliding_window", ignored}, {"use_sliding_window", ignored}, {"max_window_layers", ignored},
      {"layer_types", ignored},
  };
  return keys;
}

const std::vector<Key>& gpt2_keys() {
  using C = ModelConfig;
  static const std::vector<Key> keys = {
      {"n_layer", size(&C::layers, kMostLayers), true},
      {"n_embd", size(&C::d_model, kMostWidth), true},
      {"n_head", size(&C::heads, kMostHeads), true},
      {"n_inner", size(&C::d_ff, kMostWidth)},
      {"n_positions", size(&C::context, kMostWidth), true},
      {"vocab_size", size(&C::vocabulary, kMostWidth), true},
      {"layer_norm_epsilon", number(&C::rms_eps)},
      {"initializer_range", number(&C::init_deviation)},
      {"tie_word_embeddings", flag(&C::tied)},
      {"activation_function", one_of({"gelu_new", "gelu_pytorch_tanh", "gelu_fast"})},
      {"scale_attn_weights", one_of({true})},
      {"scale_attn_by_inverse_layer_idx", one_of({false})},
      {"add_cross_attention", one_of({false})},
  };
  return keys;
}

// What published configurations carry and no computation depends on: names, versions, tokens,
// training, generation (hugging_face_defaults has more of those), other heads, how arrays are held.
const std::vector<Key>& harmless_keys() {
  static const std::vector<Key> keys = [] {
    std::vector<Key> all = {
        // With another value than these the model, or what is stored, is another one.
        {"use_mrope", absent_or({false})}, {"is_encoder_decoder", absent_or({false})},
        {"add_cross_attention", absent_or({false})}, {"cross_attention_hidden_size", absent_or({})},
        {"rope_interleaved", absent_or({false})}, {"use_qk_norm", absent_or({false})},
        {"qk_layernorm", absent_or({false})}, {"is_causal", absent_or({true})},
        {"quantization_config", absent_or({})}, {"compression_config", absent_or({})},
        {"quantization", absent_or({})}, {"pruned_heads", absent_or({Json::object()})},
        {"per_layer_config", absent_or({Json::object()})}, {"qkv_bias", passed_over},
        {"dual_chunk_attention_config", passed_over}, {"weir_rewrites", read_rewrites},
    };
    for (const char* name : {
        "model_type", "architectures", "auto_map", "custom_pipelines", "_name_or_path", "name_or_path",
        "_commit_hash", "transformers_version", "transformers.js_config", "torch_dtype", "dtype",
        "unsloth_version", "unsloth_fixed", "unsloth_tokenizer", "_unsloth_fix_mlp", "is_llama_config",
        "model_name", "license", "library_name", "base_model", "tags",
        // Tokens and tokenizers.
        "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "unk_token_id",
        "mask_token_id", "decoder_start_token_id", "bos_token", "eos_token", "pad_token",
        "tokenizer_class", "tokenizer_model_max_length", "tokenizer_padding_side", "model_max_length",
        "max_sequence_length", "seq_length", "seq_len", "n_ctx", "vocab_file", "pad_vocab_size_multiple",
        "prefix", "truncation", "padding_side",
        // Training.
        "attention_dropout", "hidden_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob",
        "dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "classifier_dropout",
        "gradient_checkpointing", "neftune_noise_alpha", "use_bfloat16", "fp16", "bf16", "fp32",
        "router_aux_loss_coef", "output_router_logits", "initializer_factor", "z_loss", "seed",
        // How arrays are held or computed.
        "use_cache", "_attn_implementation", "_attn_implementation_internal", "_attn_implementation_autoset",
        "attn_implementation", "_flash_attn_2_enabled", "use_flash_attn", "use_flash_attention",
        "flash_attention", "_experts_implementation", "experts_implementation", "pretraining_tp",
        "tensor_parallel", "chunk_size_feed_forward", "torchscript", "reorder_and_upcast_attn",
        "xla_device", "tf_legacy_loss", "use_memory_efficient_attention", "max_batch_size",
        // Heads and outputs of other tasks.
        "_num_labels", "num_labels", "id2label", "label2id", "problem_type", "finetuning_task",
        "task_specific_params", "summary_activation", "summary_first_dropout", "summary_hidden_size",
        "summary_proj_to_labels", "summary_type", "summary_use_proj", "n_special",
        "predict_special_tokens", "output_past", "output_attentions", "output_hidden_states",
        "return_dict", "tie_encoder_decoder", "tie_last_hidden_states", "is_decoder", "type_vocab_size",
        "max_length", "max_new_tokens", "bad_words_ids", "begin_suppress_tokens",
        "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "exponential_decay_length_penalty",
      })
      all.push_back({name, ignored});
    for (const Json& name : hugging_face_defaults().at("generation"))
      all.push_back({name.get_ref<const std::string&>().c_str(), ignored});
    return all;
  }();
  return keys;
}
// clang-format on

bool has(const std::vector<Key>& keys, const std::string& name) {
  return std::any_of(keys.begin(), keys.end(), [&](const Key& key) { return key.name == name; });
}

bool nullable(const Reading& r, const std::string& key) {
  // Where an object of rotary parameters has its own base, null stands for nothing; read with them.
  if (key == "rope_theta") return true;
  const Json& names = r.library.at("nullable");
  return !r.library.at("defaults").contains(key) ||
         std::find(names.begin(), names.end(), key) != names.end();
}

// The value that counts for a key of the model: of another name of the key, which the library
// applies last; else of the key; else the default.
const Json& value_of(Reading& r, const std::string& key) {
  const Json& value = r.value(key);
  for (const auto& [alias, named] : r.library.at("aliases").items()) {
    if (named != key || !r.file.contains(alias)) continue;
    const Json& other = r.given(alias);
    if (r.file.contains(key) && other != value)
      r.note("{} is {}, but {} {}, another name of it: the latter is taken, as transformers does.",
             key, value.dump(), alias, other.dump());
    return other;
  }
  return value;
}

bool is_stated(const Reading& r, const std::string& key) {
  if (r.file.contains(key)) return true;
  for (const auto& [alias, named] : r.library.at("aliases").items())
    if (named == key && r.file.contains(alias)) return true;
  return false;
}

void read_own(Reading& r, const std::vector<Key>& keys) {
  std::vector<std::string> assumed;
  for (const Key& key : keys) {
    const Json& value = value_of(r, key.name);
    const bool stated = is_stated(r, key.name);
    if (value.is_null() && stated && !nullable(r, key.name)) {
      r.problem("{} is null; a value is needed.", key.name);
      continue;
    }
    if (!stated && !r.library.at("defaults").contains(key.name)) continue;
    if (!stated && key.shapes && !value.is_null())
      assumed.push_back(fmt::format("{} {}", key.name, value.dump()));
    key.read(r, key.name, value);
  }
  if (!assumed.empty())
    r.note("the file leaves sizes out, for which the defaults of transformers are taken: {}.",
           join(assumed, ", "));
}

void read_rest(Reading& r, const std::vector<Key>& own) {
  const std::vector<Key>& harmless = harmless_keys();
  std::vector<std::string> unknown;
  for (const auto& [name, value] : r.file.items()) {
    if (has(own, name) || r.library.at("aliases").contains(name)) continue;
    auto key = std::find_if(harmless.begin(), harmless.end(),
                            [&](const Key& each) { return each.name == name; });
    if (key != harmless.end())
      key->read(r, name, value);
    else if (!value.is_null())
      unknown.push_back(name);
  }
  if (!unknown.empty())
    r.problem(
        "unknown keys, which might change the model: {}. Remove those that do not concern the "
        "computation.",
        join(unknown, ", "));
}

// How many layers attend through a window, by layer_types or, without it, all or those from
// max_window_layers on.
int64_t windowed_layers(Reading& r, bool use) {
  const Json& types = r.given("layer_types");
  int64_t from = 0;
  if (types.is_null() && use && r.library.at("defaults").contains("max_window_layers")) {
    const Json& first = r.value("max_window_layers");
    if (!first.is_number_unsigned())
      r.problem("max_window_layers is {}; an integer >= 0 is needed.", first.dump());
    else
      from = static_cast<int64_t>(std::min<uint64_t>(first.get<uint64_t>(), kMostLayers));
  }
  if (types.is_null()) return use ? std::max<int64_t>(r.config.layers - from, 0) : 0;
  return std::count(types.begin(), types.end(), "sliding_attention");
}

void check_layer_types(Reading& r) {
  const Json& types = r.given("layer_types");
  if (types.is_null()) return;
  if (!types.is_array()) return r.problem("layer_types is {}; a list is needed.", types.dump());
  for (const Json& type : types)
    if (type != "full_attention" && type != "sliding_attention")
      return r.problem("layer_types has {}; full_attention and sliding_attention are implemented.",
                       type.dump());
  if (static_cast<int64_t>(types.size()) != r.config.layers)
    r.problem("layer_types has {} layers, num_hidden_layers is {}; the same number is needed.",
              types.size(), r.config.layers);
}

// Mistral has its window in every layer, Qwen in some and if it is switched on, Llama none.
void read_window(Reading& r) {
  const size_t before = r.problems.size();
  check_layer_types(r);
  if (r.problems.size() != before || r.model_type == "llama") return;
  const bool qwen = r.library.at("defaults").contains("use_sliding_window");
  bool use = !qwen;
  if (qwen) r.read_flag("use_sliding_window", r.value("use_sliding_window"), use);
  const Json& window = r.value("sliding_window");
  const bool none = !use || window.is_null();
  const int64_t chosen = windowed_layers(r, !none);
  if (chosen > 0 && none)
    return r.problem("layer_types has sliding_attention, but {}; {}a sliding_window {} needed.",
                     use ? "sliding_window is null" : "use_sliding_window is false",
                     qwen ? "use_sliding_window true and " : "", qwen ? "are" : "is");
  if (none || (qwen && chosen == 0)) return;
  r.read_size("sliding_window", window, kMostWidth, r.config.window);
  if (!r.file.contains("sliding_window"))
    r.note("the file leaves sliding_window out: {}, the default of transformers, is taken.",
           window.dump());
}

}  // namespace

void read_hugging_face_keys(HuggingFaceReading& r) {
  const bool gpt2 = r.config.architecture == Architecture::gpt2;
  const std::vector<Key>& own = gpt2 ? gpt2_keys() : llama_keys();
  read_own(r, own);
  read_rest(r, own);
  if (gpt2) {
    if (r.config.d_ff == 0) r.config.d_ff = 4 * r.config.d_model;
    const Json& n_ctx = r.given("n_ctx");
    if (n_ctx.is_number_unsigned() && n_ctx.get<int64_t>() != r.config.context)
      r.note("n_ctx is {}, but n_positions {}: the latter is taken, as transformers does.",
             n_ctx.dump(), r.config.context);
    return;
  }
  read_hugging_face_rope(r);
  read_window(r);
}

}  // namespace weir
