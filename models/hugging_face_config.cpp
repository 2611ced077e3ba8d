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

// Model types that people ask for, and why they are not read.
std::string why_not(const std::string& model_type) {
  if (model_type != "gpt_oss") return "";
  return " gpt_oss is a mixture of experts, which is not implemented. Its sinks are: a model of "
         "an implemented type whose checkpoint has self_attn.sinks in every layer is read with "
         "attention sink-logit.";
}

struct Found {
  const Architecture* architecture = nullptr;
  std::vector<std::string> known;  ///< model types
};

Found find_model_type(const std::string& name) {
  Found found;
  for (const Architecture& architecture : architectures())
    for (const ModelType& type : architecture.types) {
      found.known.emplace_back(type.name);
      if (name == type.name) found.architecture = &architecture;
    }
  return found;
}

const ModelType& written_type(const Architecture& architecture, const ModelConfig& c) {
  for (const ModelType& type : architecture.types)
    if (type.windowed == (c.window > 0)) return type;
  return architecture.types.front();
}

// Adds what a key of an architecture says to a config.json.
struct MeaningWriter {
  const ModelConfig& c;
  const Json& library;  ///< of hugging_face_defaults(), for the model type
  const char* key;
  Json& json;

  static constexpr const char* kSwitch = "use_sliding_window";

  bool may_be_null() const {
    const Json& names = library.at("nullable");
    return std::find(names.begin(), names.end(), key) != names.end();
  }
  void operator()(const SizeKey& size) const { json[key] = c.*size.member; }
  void operator()(const NumberKey& number) const {
    const double value = c.*number.member;
    json[key] = value == 0 && may_be_null() ? Json(nullptr) : Json(value);
  }
  void operator()(const FlagKey& flag) const { json[key] = c.*flag.member; }
  void operator()(const BiasKey& bias) const {
    if (c.*bias.member) json[key] = true;
  }
  void operator()(const GateKey& gate) const {
    if (c.output_gate == gate.gate) json[key] = true;
  }
  void operator()(const WordKey& word) const { json[key] = word.allowed.front(); }
  void operator()(const FixedKey&) const {}
  void operator()(const UnreadKey&) const {}
  void operator()(TogetherKey together) const {
    switch (together) {
      case TogetherKey::rope_base:
        json[key] = c.rope_base;
        break;
      case TogetherKey::rope_scaling:
        json[key] = hugging_face_rope_scaling(c.rope_scaling);
        break;
      case TogetherKey::window:
        // Without the key a class that has no switch would take its default.
        if (c.window == 0) {
          if (library.at("defaults").contains(key) && !library.at("defaults").contains(kSwitch))
            json[key] = nullptr;
          break;
        }
        json[key] = c.window;
        if (!library.at("defaults").contains(kSwitch)) break;
        json[kSwitch] = true;
        json["max_window_layers"] = 0;
        break;
      case TogetherKey::read_only:
        break;
    }
  }
};

}  // namespace

ModelConfig parse_hugging_face_config(const std::string& text, const std::string& where) {
  const Json json = parse_json<Json>(text, "config.json", where);
  if (!json.is_object()) user_error("config.json", "{} is no JSON object.", where);
  std::string model_type;
  auto type = json.find("model_type");
  if (type != json.end() && type->is_string()) model_type = type->get<std::string>();
  const Found found = find_model_type(model_type);
  if (!found.architecture)
    user_error("config.json", "{}: model_type is {}; implemented are {}.{}", where,
               type == json.end() ? "missing" : type->dump(), join(found.known, ", "),
               why_not(model_type));
  HuggingFaceReading r{json, hugging_face_defaults().at(model_type), *found.architecture,
                       model_type};
  r.config.architecture = found.architecture->name;
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
  const Architecture& architecture = architecture_of(c);
  const ModelType& type = written_type(architecture, c);
  const Json& library = hugging_face_defaults().at(type.name);
  Json json = {{"architectures", {type.library_class}}, {"model_type", type.name}};
  for (const ModelKey& key : architecture.keys)
    if (*key.hugging_face != '\0')
      std::visit(MeaningWriter{c, library, key.hugging_face, json}, key.meaning);
  json["torch_dtype"] = dtype;
  Json block = Json::object();
  if (c.norm_place != ModelConfig().norm_place) block["norm_place"] = c.norm_place;
  if (c.norm_gate != 0) block["norm_gate"] = c.norm_gate;
  if (!block.empty()) json["weir_block"] = block;
  if (!c.rewrites.empty()) json["weir_rewrites"] = c.rewrites;
  return json.dump(2) + "\n";
}

}  // namespace weir
