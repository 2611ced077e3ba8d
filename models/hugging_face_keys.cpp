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

// Any other value would make another model.
void check_value(Reading& r, const std::string& key, const Json& value,
                 const std::vector<Json>& allowed) {
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
  std::vector<std::string> texts;
  for (const Json& each : allowed) texts.push_back(each.dump());
  r.problem("{} is {}, which is not implemented; {} is.", key, value.dump(), join(texts, " or "));
}

// Where another file would leave it out, or say null.
Read absent_or(std::vector<Json> allowed) {
  allowed.emplace_back(nullptr);
  return [allowed = std::move(allowed)](Reading& r, const std::string& key, const Json& value) {
    check_value(r, key, value, allowed);
  };
}

void ignored(Reading&, const std::string&, const Json&) {}

// A key that seems to change the model, but that the library does not read.
void passed_over(Reading& r, const std::string& key, const Json& value) {
  if (!value.is_null() && value != false)
    r.note("{} is passed over: transformers does not read it in a model of type {}.", key,
           r.model_type);
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

// Where Weir's own models differ from the blocks of their architecture.
void read_block(Reading& r, const std::string& key, const Json& value) {
  for (const auto& [name, setting] : value.items()) {
    if (value.is_object() && name == "norm_place" && setting.is_string())
      r.config.norm_place = setting.get<std::string>();
    else if (value.is_object() && name == "norm_gate")
      r.read_size(key + ".norm_gate", setting, kMostWidth, r.config.norm_gate);
    else
      r.problem("{}: {} is {}; norm_place, a text, and norm_gate, an integer, are known.", key,
                name, setting.dump());
  }
}

// ---- Keys of an architecture, by what they mean. ----

struct MeaningReader {
  Reading& r;
  const std::string key;
  const Json& value;

  void operator()(const SizeKey& size) const {
    int64_t& member = r.config.*size.member;
    if (value.is_null())  // where it may be: another size says it
      member = size.times_width * r.config.d_model;
    else
      r.read_size(key, value, size.most, member);
  }
  void operator()(const NumberKey& number) const {
    if (value.is_null())
      r.config.*number.member = 0;
    else
      r.read_number(key, value, r.config.*number.member);
    if (const double given = r.config.*number.member;
        given != 0 && (given < number.least || given > number.most))
      r.problem("{} is {}; a number from {} to {} is needed.", key, value.dump(), number.least,
                number.most);
  }
  void operator()(const FlagKey& flag) const { r.read_flag(key, value, r.config.*flag.member); }
  void operator()(const BiasKey& bias) const {
    if (r.library.at("defaults").contains(key))
      r.read_flag(key, value, r.config.*bias.member);
    else
      passed_over(r, key, value);
  }
  void operator()(const GateKey& gate) const {
    bool chosen = false;
    r.read_flag(key, value, chosen);
    if (chosen && r.config.output_gate != OutputGate::none)
      r.problem("{} is true beside another gate; one of them is needed.", key);
    if (chosen) r.config.output_gate = gate.gate;
  }
  void operator()(const WordKey& word) const {
    check_value(r, key, value, std::vector<Json>(word.allowed.begin(), word.allowed.end()));
  }
  void operator()(const FixedKey& fixed) const {
    if (!value.is_null()) check_value(r, key, value, {fixed.value});
  }
  void operator()(const UnreadKey& unread) const {
    const int64_t counts = r.config.*unread.member;
    if (value.is_number_unsigned() && value.get<int64_t>() != counts)
      r.note("{} is {}, but {} {}: the latter is taken, as transformers does.", key, value.dump(),
             unread.counts, counts);
  }
  void operator()(TogetherKey) const {}  // once the sizes are known
};

bool has(const std::vector<ModelKey>& keys, const std::string& name) {
  return !name.empty() && std::any_of(keys.begin(), keys.end(), [&](const ModelKey& key) {
    return key.hugging_face == name;
  });
}

// ---- Keys that no architecture has for itself. ----

struct Key {
  const char* name;
  Read read;
};

// clang-format off
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
        {"weir_block", read_block},
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

void read_own(Reading& r) {
  std::vector<std::string> assumed;
  for (const ModelKey& key : r.architecture.keys) {
    const std::string name = key.hugging_face;
    if (name.empty()) continue;
    const Json& value = value_of(r, name);
    const bool stated = is_stated(r, name);
    if (value.is_null() && stated && !nullable(r, name)) {
      r.problem("{} is null; a value is needed.", name);
      continue;
    }
    if (!stated && !r.library.at("defaults").contains(name)) continue;
    const auto* size = std::get_if<SizeKey>(&key.meaning);
    if (!stated && size && size->shapes && !value.is_null())
      assumed.push_back(fmt::format("{} {}", name, value.dump()));
    std::visit(MeaningReader{r, name, value}, key.meaning);
  }
  if (!assumed.empty())
    r.note("the file leaves sizes out, for which the defaults of transformers are taken: {}.",
           join(assumed, ", "));
}

void read_rest(Reading& r) {
  const std::vector<Key>& harmless = harmless_keys();
  std::vector<std::string> unknown;
  for (const auto& [name, value] : r.file.items()) {
    if (has(r.architecture.keys, name) || r.library.at("aliases").contains(name)) continue;
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

// By the library's class: a model without the key has no window, one with a switch has it in some
// layers if it is switched on, and others have it in every layer.
void read_window(Reading& r) {
  const size_t before = r.problems.size();
  check_layer_types(r);
  const Json& defaults = r.library.at("defaults");
  if (r.problems.size() != before || !defaults.contains("sliding_window")) return;
  const bool has_switch = defaults.contains("use_sliding_window");
  bool use = !has_switch;
  if (has_switch) r.read_flag("use_sliding_window", r.value("use_sliding_window"), use);
  const Json& window = r.value("sliding_window");
  const bool none = !use || window.is_null();
  const int64_t chosen = windowed_layers(r, !none);
  if (chosen > 0 && none)
    return r.problem("layer_types has sliding_attention, but {}; {}a sliding_window {} needed.",
                     use ? "sliding_window is null" : "use_sliding_window is false",
                     has_switch ? "use_sliding_window true and " : "", has_switch ? "are" : "is");
  if (none || (has_switch && chosen == 0)) return;
  r.read_size("sliding_window", window, kMostWidth, r.config.window);
  if (!r.file.contains("sliding_window"))
    r.note("the file leaves sliding_window out: {}, the default of transformers, is taken.",
           window.dump());
}

}  // namespace

void read_hugging_face_keys(HuggingFaceReading& r) {
  read_own(r);
  read_rest(r);
  if (r.architecture.block.positions == Positions::rotary) read_hugging_face_rope(r);
  if (has(r.architecture.keys, "sliding_window")) read_window(r);
}

}  // namespace weir
