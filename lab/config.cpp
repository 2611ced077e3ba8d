#include "lab/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <numbers>
#include <set>
#include <variant>

#include "io/json_depth.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;
using Slot = std::variant<int64_t*, uint64_t*, double*, bool*, std::string*, std::vector<int64_t>*,
                          std::vector<std::string>*, VScaleVariant*, AttentionNormalizer*>;

struct Key {
  const char* name;
  std::function<Slot(RunConfig&)> slot;
  const char* meaning;
};

#define WEIR_KEY(name, member, meaning) \
  {name, [](RunConfig& c) -> Slot { return &c.member; }, meaning}

const std::vector<Key>& keys() {
  // clang-format off
  static const std::vector<Key> table = {
      WEIR_KEY("out", out, "folder of the run"),
      WEIR_KEY("seed", seed, "of weights, data and order"),
      WEIR_KEY("steps", steps, "optimiser steps"),
      WEIR_KEY("batch", batch, "sequences a step"),
      WEIR_KEY("length", length, "tokens a sequence"),
      WEIR_KEY("micro_batches", micro_batches, "parts a step is computed in, to save memory"),
      WEIR_KEY("memory", memory, "memory that the process may take in all, e.g. 2GiB, met by computing values again; empty: what is free"),
      WEIR_KEY("threads", threads, "worker threads; 0 takes all cores"),
      WEIR_KEY("checkpoint_every", checkpoint_every, "steps between checkpoints; 0: at the end only"),
      WEIR_KEY("keep_checkpoints", keep_checkpoints, "newest checkpoints of an arm that are kept; 0: all"),
      WEIR_KEY("model.name", model.name, "what the model is called"),
      WEIR_KEY("model.layers", model.layers, "blocks"),
      WEIR_KEY("model.d_model", model.d_model, "width of the residual stream"),
      WEIR_KEY("model.heads", model.heads, "query heads"),
      WEIR_KEY("model.kv_heads", model.kv_heads, "key and value heads; divides heads; 0: as many as heads"),
      WEIR_KEY("model.d_head", model.d_head, "features a head; 0: d_model / heads"),
      WEIR_KEY("model.d_ff", model.d_ff, "width of the MLP"),
      WEIR_KEY("model.vocabulary", model.vocabulary, "token ids; 0: as the data needs"),
      WEIR_KEY("model.rms_eps", model.rms_eps, "added to the mean square in RMSNorm"),
      WEIR_KEY("model.rope_base", model.rope_base, "base of the rotary embedding"),
      WEIR_KEY("model.init_deviation", model.init_deviation, "standard deviation of initial weights"),
      WEIR_KEY("model.tied", model.tied, "whether the output projection is the embedding"),
      WEIR_KEY("data.kind", data.kind, "backcopy or text"),
      WEIR_KEY("data.triggers", data.triggers, "backcopy: symbols after which the one before is copied"),
      WEIR_KEY("data.symbols", data.symbols, "backcopy: symbols of the synthetic source"),
      WEIR_KEY("data.concentration", data.concentration, "backcopy: how close its rows are to the Zipf law"),
      WEIR_KEY("data.bigrams", data.bigrams, "backcopy: a text file whose bigrams are the source"),
      WEIR_KEY("data.files", data.files, "text: files or folders, plain, .gz or C4 .json.gz"),
      WEIR_KEY("data.tokenizer", data.tokenizer, "text: bytes, a tokenizer.json, or the folder of a tokenizer"),
      WEIR_KEY("optimizer.kind", optimizer.kind, "adamw or sgd"),
      WEIR_KEY("optimizer.rate", optimizer.rate, "peak learning rate"),
      WEIR_KEY("optimizer.beta1", optimizer.beta1, "adamw: decay of the first moment"),
      WEIR_KEY("optimizer.beta2", optimizer.beta2, "adamw: decay of the second moment"),
      WEIR_KEY("optimizer.eps", optimizer.eps, "adamw: added to the root of the second moment"),
      WEIR_KEY("optimizer.momentum", optimizer.momentum, "sgd: momentum"),
      WEIR_KEY("optimizer.decay", optimizer.decay, "decoupled weight decay of matrices and embeddings"),
      WEIR_KEY("optimizer.clip", optimizer.clip, "largest global gradient norm; 0: no clipping"),
      WEIR_KEY("optimizer.warmup", optimizer.warmup, "steps of linear warm-up"),
      WEIR_KEY("optimizer.schedule", optimizer.schedule, "cosine or constant"),
      WEIR_KEY("optimizer.final_rate", optimizer.final_rate, "rate at the last step, as a fraction of the peak"),
      WEIR_KEY("measure.metrics", measure.metrics, "whether measured steps write the metric record"),
      WEIR_KEY("measure.steps", measure.steps, "the steps to measure; empty: 0, 1, 2, 4 ... 512, then every so often"),
      WEIR_KEY("measure.every", measure.every, "steps between measurements after 512"),
      WEIR_KEY("measure.sink_token", measure.sink_token, "the token taken for the sink"),
      WEIR_KEY("measure.sink_window", measure.sink_window, "queries over which the sink score is averaged"),
      WEIR_KEY("measure.sink_threshold", measure.sink_threshold, "sink score above which a head counts as sinking"),
      WEIR_KEY("measure.gradient_window", measure.gradient_window, "last token that the gradient-sink ratio compares with"),
      WEIR_KEY("measure.massive_absolute", measure.massive_absolute, "a massive activation is larger than this"),
      WEIR_KEY("measure.massive_ratio", measure.massive_ratio, "and than this many times the median"),
      WEIR_KEY("measure.probes", measure.probes, "further probe selectors, separated by ';'; kept as arrays"),
      WEIR_KEY("measure.map_layer", measure.map_layer, "layer of the attention map in the report"),
      WEIR_KEY("measure.map_head", measure.map_head, "head of that map"),
      WEIR_KEY("attention", attention, "softmax, or softmax-1: one more score of zero without a value"),
      WEIR_KEY("v_scale.variant", v_scale.variant, "none, full, learned, backward or forward"),
      WEIR_KEY("v_scale.lambda", v_scale.lambda, "factor of C = d_model d_head sigma^2 lambda"),
      WEIR_KEY("v_scale.sigma", v_scale.sigma, "the initialiser's standard deviation in C"),
      WEIR_KEY("v_scale.layers", v_scale.layers, "layers it applies to; empty: all"),
  };
  // clang-format on
  return table;
}
#undef WEIR_KEY

std::vector<std::string> key_names() {
  std::vector<std::string> names = {"arms"};
  for (const Key& key : keys()) names.emplace_back(key.name);
  return names;
}

const Key* find_key(std::string_view name) {
  for (const Key& key : keys())
    if (name == key.name) return &key;
  return nullptr;
}

template <typename T>
bool parse_number(std::string_view text, T& result) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
  return error == std::errc() && end == text.data() + text.size();
}

// What kind of value a slot holds, for messages.
struct KindName {
  std::string operator()(const int64_t*) const { return "an integer"; }
  std::string operator()(const uint64_t*) const { return "an integer >= 0"; }
  std::string operator()(const double*) const { return "a number"; }
  std::string operator()(const bool*) const { return "true or false"; }
  std::string operator()(const std::string*) const { return "a text"; }
  std::string operator()(const std::vector<int64_t>*) const { return "integers separated by ','"; }
  std::string operator()(const std::vector<std::string>*) const { return "texts"; }
  std::string operator()(const VScaleVariant*) const { return "a variant"; }
  std::string operator()(const AttentionNormalizer*) const { return "a normaliser"; }
};

// Reads the text of a value; returns false if it is of another kind.
struct FromText {
  const std::string& text;
  bool operator()(int64_t* v) const { return parse_number(text, *v); }
  bool operator()(uint64_t* v) const { return parse_number(text, *v); }
  bool operator()(double* v) const { return parse_number(text, *v) && std::isfinite(*v); }
  bool operator()(bool* v) const {
    *v = text == "true";
    return text == "true" || text == "false";
  }
  bool operator()(std::string* v) const {
    *v = text;
    return true;
  }
  bool operator()(std::vector<int64_t>* v) const {
    v->clear();
    if (trim(text).empty()) return true;
    for (const std::string& part : split(text, ',')) {
      int64_t number = 0;
      if (!parse_number(trim(part), number)) return false;
      v->push_back(number);
    }
    return true;
  }
  bool operator()(std::vector<std::string>* v) const {
    v->clear();
    for (const std::string& part :
         split(text, text.find(';') == std::string::npos && text.find(':') == std::string::npos
                         ? ','
                         : ';'))
      if (!trim(part).empty()) v->emplace_back(trim(part));
    return true;
  }
  bool operator()(VScaleVariant* v) const {
    *v = parse_v_scale_variant(text);
    return true;
  }
  bool operator()(AttentionNormalizer* v) const {
    *v = parse_normalizer(text);
    return true;
  }
};

struct ToJson {
  Json operator()(const VScaleVariant* v) const { return v_scale_variant_name(*v); }
  Json operator()(const AttentionNormalizer* v) const { return normalizer_name(*v); }
  template <typename T>
  Json operator()(const T* v) const {
    return *v;
  }
};

// The text form of a JSON value, so that both sources are read by the same rules.
std::string text_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::vector<std::string> parts;
  bool texts = std::any_of(value.begin(), value.end(), [](const Json& v) { return v.is_string(); });
  for (const Json& element : value) parts.push_back(text_of(element));
  return join(parts, texts ? ";" : ",") + (texts ? ";" : "");
}

void set_key(RunConfig& config, const std::string& name, const std::string& text,
             Problems& problems) {
  const Key* key = find_key(name);
  if (!key) {
    problems.add(fmt::format("unknown key '{}'.{} `weir train --help` lists all keys.", name,
                             did_you_mean(name, key_names())));
    return;
  }
  Slot slot = key->slot(config);
  try {
    if (!std::visit(FromText{text}, slot))
      problems.add(
          fmt::format("{} is '{}', but {} is needed.", name, text, std::visit(KindName{}, slot)));
  } catch (const UserError& error) {
    problems.add(fmt::format("{}: {}", name, error.what()));
  }
}

// "baseline; v-scale-full: v_scale.variant=full optimizer.rate=0.01"
std::vector<ArmConfig> arms_from_text(const std::string& text, Problems& problems) {
  std::vector<ArmConfig> arms;
  for (const std::string& part : split(text, ';')) {
    if (trim(part).empty()) continue;
    size_t colon = part.find(':');
    ArmConfig arm{std::string(trim(part.substr(0, colon))), {}};
    if (colon != std::string::npos)
      for (const std::string& word : split(part.substr(colon + 1), ' ')) {
        if (word.empty()) continue;
        size_t equals = word.find('=');
        if (equals == std::string::npos)
          problems.add(fmt::format("arm {}: '{}' is no key=value.", arm.name, word));
        else
          arm.overrides.emplace_back(word.substr(0, equals), word.substr(equals + 1));
      }
    arms.push_back(std::move(arm));
  }
  return arms;
}

std::vector<ArmConfig> arms_from_json(const Json& json, Problems& problems) {
  std::vector<ArmConfig> arms;
  if (json.is_string()) return arms_from_text(json.get<std::string>(), problems);
  if (!json.is_array()) {
    problems.add("arms is no list of objects with a name and keys.");
    return arms;
  }
  for (const Json& entry : json) {
    if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string()) {
      problems.add(fmt::format("arms: {} is no object with a name.", entry.dump()));
      continue;
    }
    ArmConfig arm{entry["name"].get<std::string>(), {}};
    for (const auto& [key, value] : entry.items())
      if (key != "name") arm.overrides.emplace_back(key, text_of(value));
    arms.push_back(std::move(arm));
  }
  return arms;
}

void read_json(RunConfig& config, const Json& json, const std::string& prefix, Problems& problems) {
  for (const auto& [key, value] : json.items()) {
    std::string name = prefix + key;
    if (name == "arms")
      config.arms = arms_from_json(value, problems);
    else if (value.is_object() && !find_key(name))
      read_json(config, value, name + ".", problems);
    else
      set_key(config, name, text_of(value), problems);
  }
}

void check_choice(Problems& problems, const char* key, const std::string& value,
                  const std::vector<std::string>& choices) {
  if (std::find(choices.begin(), choices.end(), value) == choices.end())
    problems.add(fmt::format("{} is '{}'. Use {}.{}", key, value, join(choices, " or "),
                             did_you_mean(value, choices)));
}

void check_ranges(const RunConfig& c, Problems& problems) {
  auto at_least = [&](const char* key, int64_t value, int64_t low) {
    if (value < low)
      problems.add(fmt::format("{} is {}, but at least {} is needed.", key, value, low));
  };
  auto within = [&](const char* key, double value, double low, double high) {
    if (!(value >= low && value <= high))
      problems.add(
          fmt::format("{} is {}, but a number from {} to {} is needed.", key, value, low, high));
  };
  at_least("steps", c.steps, 0);
  at_least("batch", c.batch, 1);
  at_least("length", c.length, 2);
  at_least("micro_batches", c.micro_batches, 1);
  at_least("threads", c.threads, 0);
  at_least("checkpoint_every", c.checkpoint_every, 0);
  at_least("measure.every", c.measure.every, 1);
  at_least("measure.sink_window", c.measure.sink_window, 1);
  at_least("measure.gradient_window", c.measure.gradient_window, 1);
  at_least("optimizer.warmup", c.optimizer.warmup, 0);
  within("optimizer.rate", c.optimizer.rate, 0, 1e6);
  within("optimizer.beta1", c.optimizer.beta1, 0, 1 - 1e-9);
  within("optimizer.beta2", c.optimizer.beta2, 0, 1 - 1e-9);
  within("optimizer.eps", c.optimizer.eps, 0, 1);
  within("optimizer.momentum", c.optimizer.momentum, 0, 1);
  within("optimizer.decay", c.optimizer.decay, 0, 1e6);
  within("optimizer.clip", c.optimizer.clip, 0, 1e9);
  within("optimizer.final_rate", c.optimizer.final_rate, 0, 1);
  if (!c.memory.empty() && !parse_bytes(c.memory))
    problems.add(
        fmt::format("memory is '{}', but a size such as 2GiB or 500M is needed.", c.memory));
  check_choice(problems, "optimizer.kind", c.optimizer.kind, {"adamw", "sgd"});
  check_choice(problems, "optimizer.schedule", c.optimizer.schedule, {"cosine", "constant"});
  check_choice(problems, "data.kind", c.data.kind, {"backcopy", "text"});
}

void check_together(const RunConfig& c, Problems& problems) {
  if (c.micro_batches > 0 && c.batch % c.micro_batches != 0)
    problems.add(
        fmt::format("batch {} is no multiple of micro_batches {}.", c.batch, c.micro_batches));
  auto below = [&](const char* key, int64_t value, const char* bound_name, int64_t bound) {
    if (value < 0 || value >= bound)
      problems.add(fmt::format("{} is {}, but {} is {}: 0 to {} are there.", key, value, bound_name,
                               bound, bound - 1));
  };
  below("measure.sink_token", c.measure.sink_token, "length", c.length);
  below("measure.map_layer", c.measure.map_layer, "model.layers", c.model.layers);
  below("measure.map_head", c.measure.map_head, "model.heads", c.model.heads);
  for (int64_t layer : c.v_scale.layers)
    below("v_scale.layers", layer, "model.layers", c.model.layers);
  for (int64_t step : c.measure.steps)
    if (step < 0 || step > c.steps)
      problems.add(
          fmt::format("measure.steps has {}, but the run has steps 0 to {}.", step, c.steps));
  if (c.data.kind == "text" && c.data.files.empty())
    problems.add("data.kind is text, but data.files is empty. Name files or a folder.");
  try {
    ModelConfig model = c.model;
    if (model.vocabulary == 0) model.vocabulary = 1;
    check_config(model);
  } catch (const UserError& error) {
    problems.add(error.what());
  }
}

void check(const RunConfig& config) {
  Problems problems("config");
  check_ranges(config, problems);
  check_together(config, problems);
  problems.raise();
}

}  // namespace

RunConfig::RunConfig() { model.vocabulary = 0; }

RunConfig parse_config(const std::string& json, const std::vector<std::string>& words,
                       RunConfig config) {
  Problems problems("config");
  if (!json.empty()) {
    Json parsed =
        json_is_shallow(json) ? Json::parse(json, nullptr, false) : Json(Json::value_t::discarded);
    if (!parsed.is_object())
      user_error("config", "the configuration is no JSON object. Give {{\"steps\": 100, ...}}.");
    read_json(config, parsed, "", problems);
  }
  for (const std::string& word : words) {
    size_t equals = word.find('=');
    if (equals == std::string::npos) {
      problems.add(fmt::format("'{}' is no key=value.", word));
      continue;
    }
    std::string key = word.substr(0, equals), value = word.substr(equals + 1);
    if (key == "arms")
      config.arms = arms_from_text(value, problems);
    else
      set_key(config, key, value, problems);
  }
  std::set<std::string> names;
  for (const ArmConfig& arm : config.arms) {
    if (!names.insert(arm.name).second || arm.name.empty() ||
        arm.name.find('/') != std::string::npos)
      problems.add(
          fmt::format("arm name '{}': each arm needs a name of its own that can name a "
                      "folder.",
                      arm.name));
    RunConfig trial = config;
    for (const auto& [key, value] : arm.overrides) set_key(trial, key, value, problems);
    check_ranges(trial, problems);
  }
  if (config.arms.empty() || !problems.empty()) check_ranges(config, problems);
  check_together(config, problems);
  problems.raise();
  return config;
}

RunConfig with_arm(const RunConfig& config, const ArmConfig& arm) {
  RunConfig result = config;
  Problems problems("config");
  for (const auto& [key, value] : arm.overrides) set_key(result, key, value, problems);
  problems.raise();
  result.arms.clear();
  check(result);
  return result;
}

std::string config_json(const RunConfig& config) {
  RunConfig copy = config;
  Json json = Json::object();
  for (const Key& key : keys()) {
    Json value = std::visit(ToJson{}, key.slot(copy));
    std::string name = key.name;
    size_t dot = name.find('.');
    if (dot == std::string::npos)
      json[name] = value;
    else
      json[name.substr(0, dot)][name.substr(dot + 1)] = value;
  }
  json["arms"] = Json::array();
  for (const ArmConfig& arm : config.arms) {
    Json entry = {{"name", arm.name}};
    for (const auto& [key, value] : arm.overrides) entry[key] = value;
    json["arms"].push_back(entry);
  }
  return json.dump(2);
}

std::map<std::string, std::string> rewrite_settings(const RunConfig& config) {
  std::map<std::string, std::string> settings;
  RunConfig copy = config, defaults;
  if (copy.v_scale.variant == VScaleVariant::none) copy.v_scale = {};  // its other keys do nothing
  for (const Key& key : keys()) {
    const std::string name = key.name;
    if (name != "attention" && !name.starts_with("v_scale.")) continue;
    const Json value = std::visit(ToJson{}, key.slot(copy));
    if (value != std::visit(ToJson{}, key.slot(defaults))) settings[name] = text_of(value);
  }
  return settings;
}

std::string config_help() {
  RunConfig defaults;
  std::string text;
  for (const Key& key : keys())
    text += fmt::format("  {:<26} {:<12} {}\n", key.name,
                        std::visit(ToJson{}, key.slot(defaults)).dump(), key.meaning);
  text += fmt::format("  {:<26} {:<12} {}\n", "arms", "[]",
                      "runs to compare, \"name; name: key=value key=value\"");
  return text;
}

RunConfig standard_run(const std::string& model) {
  RunConfig config;
  config.model = llama_config(model);
  config.length = config.model.context;
  config.batch = std::max<int64_t>(1, 4096 / config.length);
  return config;
}

std::vector<int64_t> measured_steps(const RunConfig& config) {
  std::set<int64_t> steps(config.measure.steps.begin(), config.measure.steps.end());
  if (steps.empty()) {
    steps.insert(0);
    for (int64_t step = 1; step <= 512; step *= 2) steps.insert(step);
    for (int64_t step = config.measure.every; step <= config.steps; step += config.measure.every)
      if (step > 512) steps.insert(step);
    steps.insert(config.steps);
  }
  std::vector<int64_t> result;
  for (int64_t step : steps)
    if (step <= config.steps) result.push_back(step);
  return result;
}

double learning_rate(const OptimizerConfig& optimizer, int64_t step, int64_t steps) {
  if (step < optimizer.warmup)
    return optimizer.rate * static_cast<double>(step + 1) / static_cast<double>(optimizer.warmup);
  if (optimizer.schedule == "constant") return optimizer.rate;
  int64_t span = std::max<int64_t>(1, steps - optimizer.warmup);
  double progress =
      std::min(1.0, static_cast<double>(step - optimizer.warmup) / static_cast<double>(span));
  double cosine = 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return optimizer.rate * (optimizer.final_rate + (1 - optimizer.final_rate) * cosine);
}

}  // namespace weir
