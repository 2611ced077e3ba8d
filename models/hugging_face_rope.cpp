#include "models/hugging_face_rope.h"

#include <algorithm>
#include <cmath>

#include "support/error.h"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;
using Reading = HuggingFaceReading;

constexpr const char* kOriginal = "original_max_position_embeddings";

const std::vector<std::string>& members_of(RopeKind kind) {
  static const std::vector<std::string> none,
      linear = {"factor"}, llama3 = {"factor", "low_freq_factor", "high_freq_factor", kOriginal},
      yarn = {"factor",    kOriginal, "attention_factor", "beta_fast",
              "beta_slow", "mscale",  "mscale_all_dim",   "truncate"};
  switch (kind) {
    case RopeKind::none:
      return none;
    case RopeKind::linear:
      return linear;
    case RopeKind::llama3:
      return llama3;
    case RopeKind::yarn:
      return yarn;
  }
  internal_error_at("unknown scaling");
}

const char* name_of(RopeKind kind) {
  switch (kind) {
    case RopeKind::none:
      return "default";
    case RopeKind::linear:
      return "linear";
    case RopeKind::llama3:
      return "llama3";
    case RopeKind::yarn:
      return "yarn";
  }
  internal_error_at("unknown scaling");
}

// One object with parameters of rotary embedding, `key` in the file.
class RopeObject {
 public:
  RopeObject(Reading& r, const std::string& key) : r_(r), key_(key), object_(r.given(key)) {}

  void read() {
    read_kind();
    const std::vector<std::string>& used = members_of(scaling().kind);
    for (const auto& [name, value] : object_.items()) {
      if (name == "rope_type" || name == "type" || name == "rope_theta" || name == "finetuned")
        continue;
      if (name == "partial_rotary_factor") {
        if (!value.is_null() && value != 1.0)
          r_.problem("{}.{} is {}, which is not implemented; 1 is.", key_, name, value.dump());
      } else if (!known(name)) {
        r_.problem("{}.{} is not known.", key_, name);
      } else if (std::find(used.begin(), used.end(), name) == used.end() && !value.is_null()) {
        r_.note("{}.{} is passed over: rope_type {} does not use it.", key_, name,
                name_of(scaling().kind));
      }
    }
    switch (scaling().kind) {
      case RopeKind::none:
        break;
      case RopeKind::linear:
        positive("factor", scaling().factor);
        break;
      case RopeKind::llama3:
        positive("factor", scaling().factor);
        positive("low_freq_factor", scaling().low);
        positive("high_freq_factor", scaling().high);
        read_original();
        break;
      case RopeKind::yarn:
        read_yarn();
        break;
    }
  }

 private:
  RopeScaling& scaling() { return r_.config.rope_scaling; }
  const Json* find(const std::string& name) const {
    auto found = object_.find(name);
    return found == object_.end() ? nullptr : &*found;
  }
  static bool known(const std::string& name) {
    for (RopeKind kind : {RopeKind::linear, RopeKind::llama3, RopeKind::yarn}) {
      const auto& members = members_of(kind);
      if (std::find(members.begin(), members.end(), name) != members.end()) return true;
    }
    return false;
  }

  void read_kind() {
    const Json *type = find("rope_type"), *older = find("type");
    if (type && older && *type != *older)
      r_.note("{}.type is {}, but rope_type {}: the latter is taken, as transformers does.", key_,
              older->dump(), type->dump());
    if (!type) type = older;
    if (!type) return;
    for (RopeKind kind : {RopeKind::none, RopeKind::linear, RopeKind::llama3, RopeKind::yarn})
      if (*type == name_of(kind)) {
        scaling().kind = kind;
        return;
      }
    const std::string text = type->is_string() ? type->get<std::string>() : type->dump();
    r_.problem(
        "{} is of type {}, which is not implemented; default, linear, llama3 and yarn are.{}", key_,
        text,
        text == "dynamic" || text == "longrope" || text == "su"
            ? " Its frequencies depend on the length of the text."
            : "");
  }

  // A member that the type needs.
  void positive(const char* name, double& number) {
    const Json* value = find(name);
    if (!value)
      return r_.problem("{} lacks {}, which rope_type {} needs.", key_, name,
                        name_of(scaling().kind));
    const size_t before = r_.problems.size();
    r_.read_number(key_ + "." + name, *value, number);
    if (r_.problems.size() == before && number == 0)
      r_.problem("{}.{} is 0; a positive number is needed.", key_, name);
  }

  // Tokens of a text in training: of the file itself, of the object, or what the model has.
  void read_original() {
    const Json &outer = r_.given(kOriginal), *inner = find(kOriginal);
    if (!outer.is_null() && inner && *inner != outer)
      r_.note("{}.{} is {}, but {} {}: the latter is taken, as transformers does.", key_, kOriginal,
              inner->dump(), kOriginal, outer.dump());
    if (!outer.is_null()) return r_.read_size(kOriginal, outer, kMostWidth, scaling().context);
    if (inner) return r_.read_size(key_ + "." + kOriginal, *inner, kMostWidth, scaling().context);
    scaling().context = r_.config.context;
  }

  // A number that null or 0 leave at its default.
  double optional(const char* name, double otherwise) {
    const Json* value = find(name);
    double number = 0;
    if (value && !value->is_null()) r_.read_number(key_ + "." + name, *value, number);
    return number == 0 ? otherwise : number;
  }

  void read_yarn() {
    read_original();
    if (const Json* factor = find("factor"); factor && factor->is_null())
      scaling().factor =
          static_cast<double>(r_.config.context) / static_cast<double>(scaling().context);
    else
      positive("factor", scaling().factor);
    scaling().fast = optional("beta_fast", 32);
    scaling().slow = optional("beta_slow", 1);
    if (const Json* truncate = find("truncate"))
      r_.read_flag(key_ + ".truncate", *truncate, scaling().whole);
    const double factor = scaling().factor;
    const double all = optional("mscale_all_dim", 0), some = optional("mscale", 0);
    scaling().amplitude = all != 0 && some != 0
                              ? yarn_amplitude(factor, some) / yarn_amplitude(factor, all)
                              : yarn_amplitude(factor);
    if (const Json* given = find("attention_factor"); given && !given->is_null())
      positive("attention_factor", scaling().amplitude);
  }

  Reading& r_;
  const std::string key_;
  const Json& object_;
};

// The base: of the object that was chosen ("" for none), else of the file.
void read_base(Reading& r, const std::string& chosen) {
  const Json& outer = r.given("rope_theta");
  if (chosen.empty() || !r.given(chosen).contains("rope_theta")) {
    // The library takes null here, and has no base then.
    if (r.file.contains("rope_theta") && outer.is_null())
      return r.problem("rope_theta is null; a value is needed.");
    return r.read_number("rope_theta", r.value("rope_theta"), r.config.rope_base);
  }
  const Json& inner = r.given(chosen).at("rope_theta");
  r.read_number(chosen + ".rope_theta", inner, r.config.rope_base);
  if (!outer.is_null() && outer != inner)
    r.note("rope_theta is {}, but {}.rope_theta {}: the latter is taken, as transformers does.",
           outer.dump(), chosen, inner.dump());
}

}  // namespace

double yarn_amplitude(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

void read_hugging_face_rope(Reading& r) {
  std::string chosen;
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const Json& object = r.given(key);
    if (!object.is_null() && !object.is_object())
      return r.problem("{} is {}; an object is needed.", key, object.dump());
    if (object.is_null() || object.empty()) continue;
    if (!chosen.empty() && r.given(chosen) != object)
      r.note("{} and {} differ: the latter is taken whole, as transformers does.", chosen, key);
    chosen = key;
  }
  if (const Json& factor = r.given("partial_rotary_factor"); !factor.is_null() && factor != 1.0)
    r.problem("partial_rotary_factor is {}, which is not implemented; 1 is.", factor.dump());
  read_base(r, chosen);
  if (!chosen.empty()) RopeObject(r, chosen).read();
}

Json hugging_face_rope_scaling(const RopeScaling& s) {
  Json json = {{"rope_type", name_of(s.kind)}, {"factor", s.factor}};
  switch (s.kind) {
    case RopeKind::none:
      return nullptr;
    case RopeKind::linear:
      break;
    case RopeKind::llama3:
      json["low_freq_factor"] = s.low;
      json["high_freq_factor"] = s.high;
      json[kOriginal] = s.context;
      break;
    case RopeKind::yarn:
      json[kOriginal] = s.context;
      json["attention_factor"] = s.amplitude;
      json["beta_fast"] = s.fast;
      json["beta_slow"] = s.slow;
      json["truncate"] = s.whole;
      break;
  }
  return json;
}

}  // namespace weir
