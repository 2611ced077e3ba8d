#include "lab/train/initial_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "io/hash.h"
#include "ir/rewrite_state.h"
#include "lab/measure/model_source.h"
#include "lab/train/trainer.h"
#include "models/hugging_face_config.h"
#include "support/error.h"

namespace weir {

std::string init_named_in(const std::string& json, const std::vector<std::string>& words) {
  constexpr const char* key = "init=";
  for (auto word = words.rbegin(); word != words.rend(); ++word)
    if (word->starts_with(key)) return word->substr(std::string_view(key).size());
  const auto parsed = nlohmann::json::parse(json, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("init") || !parsed["init"].is_string()) return "";
  return parsed["init"].get<std::string>();
}

RunConfig with_model_of(const std::string& path, RunConfig config) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  const ModelConfig& from = checkpoint.config();
  ModelConfig& model = config.model;
  model.name = from.name;
  model.layers = from.layers;
  model.d_model = from.d_model;
  model.heads = from.heads;
  model.kv_heads = from.kv_heads;
  model.d_head = from.d_head;
  model.d_ff = from.d_ff;
  model.vocabulary = from.vocabulary;
  model.rms_eps = from.rms_eps;
  model.rope_base = from.rope_base;
  model.init_deviation = from.init_deviation;
  model.tied = from.tied;
  model.norm_place = from.norm_place;
  model.norm_gate = from.norm_gate;
  config.rewrites = trained_rewrites(checkpoint);
  // What the keys do not say shows in the two configurations as others would read them.
  ModelConfig trained = model;
  trained.context = from.context;
  trained.rewrites = from.rewrites;
  using Json = nlohmann::json;
  const Json have = Json::parse(hugging_face_config(from, "float32"));
  const Json get = Json::parse(hugging_face_config(trained, "float32"));
  // Of another kind every key would differ.
  if (have["model_type"] != get["model_type"])
    user_error(
        "init",
        "{} is a model of type {}, which `weir train` cannot train: it trains models of type "
        "{} alone (RMSNorm, rotary embedding, SwiGLU, no biases, no sliding window). `weir "
        "measure` and `weir eval` take it as it is.",
        path, have["model_type"].get<std::string>(), get["model_type"].get<std::string>());
  Problems problems("init");
  Json keys = have;
  keys.update(get);
  const auto shown = [](const Json& json, const std::string& key) {
    return json.contains(key) ? json[key].dump() : std::string("absent");
  };
  for (const auto& [key, value] : keys.items())
    if (shown(have, key) != shown(get, key))
      problems.add(fmt::format(
          "{}: {} is {}, but models of the trainer have {}. Only checkpoints whose model the keys "
          "model.* describe can be trained on.",
          path, key, shown(have, key), shown(get, key)));
  problems.raise();
  return config;
}

InitialWeights::InitialWeights(const std::string& path, std::vector<Parameter> parameters)
    : checkpoint_(Checkpoint::open(path)) {
  const std::vector<Parameter> stored = checkpoint_.build(1, 1).parameters;
  trained_rewrites(checkpoint_);  // whose states it has to have
  std::vector<std::string> differences;
  for (const Parameter& parameter : parameters) {
    const auto same = std::find_if(stored.begin(), stored.end(), [&](const Parameter& other) {
      return other.name == parameter.name;
    });
    const bool starts_anywhere =
        parameter.initial == Initial::zeros || find_rewrite_state(parameter.name);
    const bool added = same == stored.end() && starts_anywhere;
    if (same != stored.end() || (added && checkpoint_.has(parameter))) found_.push_back(parameter);
    if (same == stored.end() && !added)
      differences.push_back(
          fmt::format("{} has no {}, which the model of the run has.", path, parameter.name));
    else if (same != stored.end() && same->type.shape != parameter.type.shape)
      differences.push_back(fmt::format("{}: {} is {}, but the run has {}.", path, parameter.name,
                                        to_string(same->type), to_string(parameter.type)));
  }
  for (const Parameter& other : stored)
    if (std::none_of(parameters.begin(), parameters.end(),
                     [&](const Parameter& parameter) { return parameter.name == other.name; }))
      differences.push_back(
          fmt::format("{} has {}, which the model of the run has not.", path, other.name));
  if (differences.empty()) return;
  Problems problems("init");
  for (size_t i = 0; i < std::min(differences.size(), kMaxListed); ++i)
    problems.add(differences[i]);
  if (differences.size() > kMaxListed)
    problems.add(fmt::format("and {} more weights differ.", differences.size() - kMaxListed));
  problems.add(
      "A run takes its model from init=: leave out model, model.*, and what changes them.");
  problems.raise();
}

std::string InitialWeights::check() const {
  Hasher hasher;
  std::vector<float> values;
  for (const Parameter& parameter : found_) {
    values.resize(static_cast<size_t>(parameter.type.elements()));
    checkpoint_.read(parameter, values.data());
    const auto bytes = std::as_bytes(std::span(values));
    hasher.add(parameter.name);
    hasher.add({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  checkpoint_.need_finite();
  return hasher.hex_128();
}

void InitialWeights::read(const std::vector<StateArray>& weights) const {
  for (const Parameter& parameter : found_) {
    const auto array = std::find_if(weights.begin(), weights.end(), [&](const StateArray& state) {
      return state.name == parameter.name;
    });
    WEIR_CHECK(array != weights.end(), "no state {}", parameter.name);
    checkpoint_.read(parameter, static_cast<float*>(array->data));
  }
}

ModelSource initial_source(const RunConfig& config) {
  if (!config.init.empty())
    user_error("init",
               "the run starts from the weights of {}, not from those of its configuration. Give "
               "that checkpoint as the model.",
               config.init);
  ModelSource source;
  static_cast<ModelDefinition&>(source) = model_of(config);
  source.read = [seed = config.seed](const Parameter& parameter, float* out) {
    initialise_parameter(parameter, seed, out);
  };
  return source;
}

}  // namespace weir
