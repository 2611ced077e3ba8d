#include "models/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numbers>

#include "models/architecture.h"
#include "models/hugging_face_rope.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

// The keys rope.scaling.*, with the defaults of llama.cpp.
struct RopeKeys {
  std::string type = "linear";
  double factor = 0, older_factor = 0;  // 0: not given
  double amplitude = 1, yarn_amplitude = 1, extrapolation = 1;
  double fast = 32, slow = 1;
  int64_t context = 0;  // 0: context_length
};

struct Reading {
  const GgufParts& model;
  const GgufFile& file;  // with the metadata
  ModelConfig config = {};
  RopeKeys rope = {};
  int64_t rotary_features = 0;
  std::vector<std::string> problems = {};

  template <typename... Args>
  void problem(fmt::format_string<Args...> format, Args&&... args) {
    problems.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
};

using Read = std::function<void(Reading&, const GgufValue&)>;

// One number, or one a layer as long as all are the same.
void read_size(Reading& r, const GgufValue& value, int64_t most, int64_t& size) {
  const std::vector<int64_t> sizes = value.wholes();
  if (sizes.empty() || *std::min_element(sizes.begin(), sizes.end()) < 1 ||
      *std::max_element(sizes.begin(), sizes.end()) > most)
    return r.problem("{}: integers from 1 to {} are needed.", value.key(), most);
  if (std::any_of(sizes.begin(), sizes.end(), [&](int64_t s) { return s != sizes[0]; }))
    return r.problem("{} differs from layer to layer, which is not implemented.", value.key());
  size = sizes[0];
}

// An f32 stands for its shortest decimal: 1e-05, not 9.999999747378752e-06.
double decimal(const GgufValue& value) {
  if (value.kind() != GgufKind::f32) return value.number();
  return std::stod(fmt::format("{}", static_cast<float>(value.number())));
}

void read_number(Reading& r, const GgufValue& value, double& number, double least = 0,
                 double most = std::numeric_limits<double>::max()) {
  const double given = decimal(value);
  if (given != 0 && (given < least || given > most))
    r.problem("{} is {}; a number from {} to {} is needed.", value.key(), given, least, most);
  else if (std::isfinite(given) && given >= 0)
    number = given;
  else
    r.problem("{} is {}; a number >= 0 is needed.", value.key(), given);
}

Read rope_number(double RopeKeys::* member) {
  return [=](Reading& r, const GgufValue& value) { read_number(r, value, r.rope.*member); };
}

void ignored(Reading&, const GgufValue&) {}

void read_value_length(Reading& r, const GgufValue& value) {
  int64_t length = 0;
  read_size(r, value, kMostHeads, length);
  const GgufValue* keys = r.file.find(r.config.architecture + ".attention.key_length");
  if (keys && keys->whole() != length)
    r.problem("values have {} features a head, but keys {}, which is not implemented.", length,
              keys->whole());
}

void read_extrapolation(Reading& r, const GgufValue& value) {
  r.rope.extrapolation = decimal(value);
}

struct Key {
  const char* name;  ///< after the architecture and a dot
  Read read;
};

// clang-format off
// The keys beside those of the architecture that are understood; others might change the model.
const std::vector<Key>& common_keys() {
  static const std::vector<Key> table = {
      {"attention.value_length", read_value_length},
      {"rope.dimension_count", [](Reading& r, const GgufValue& v) { read_size(r, v, kMostHeads, r.rotary_features); }},
      {"rope.scaling.type", [](Reading& r, const GgufValue& v) { r.rope.type = v.text(); }},
      {"rope.scaling.factor", rope_number(&RopeKeys::factor)},
      {"rope.scale_linear", rope_number(&RopeKeys::older_factor)},
      {"rope.scaling.original_context_length", [](Reading& r, const GgufValue& v) { read_size(r, v, kMostWidth, r.rope.context); }},
      {"rope.scaling.attn_factor", rope_number(&RopeKeys::amplitude)},
      {"rope.scaling.yarn_attn_factor", rope_number(&RopeKeys::yarn_amplitude)},
      {"rope.scaling.yarn_ext_factor", read_extrapolation},
      {"rope.scaling.yarn_beta_fast", rope_number(&RopeKeys::fast)},
      {"rope.scaling.yarn_beta_slow", rope_number(&RopeKeys::slow)},
      {"rope.scaling.finetuned", ignored},
      {"vocab_size", ignored},                            // the embedding says it
      {"tensor_data_layout", ignored},
      // Of other architectures than those that have a key of this name.
      {"use_parallel_residual", ignored}, {"rope.freq_base", ignored},
      {"attention.layer_norm_rms_epsilon", ignored}, {"attention.layer_norm_epsilon", ignored},
  };
  return table;
}
// clang-format on

void read_together(Reading& r, TogetherKey key, const GgufValue& value) {
  switch (key) {
    case TogetherKey::rope_base:
      return read_number(r, value, r.config.rope_base);
    case TogetherKey::window:
      return read_size(r, value, kMostContext, r.config.window);
    case TogetherKey::rope_scaling:
    case TogetherKey::read_only:
      break;
  }
  internal_error_at("a key that GGUF does not have: " + value.key());
}

void read_own(Reading& r, const ModelKey& key, const GgufValue& value) {
  if (const auto* size = std::get_if<SizeKey>(&key.meaning))
    read_size(r, value, size->most, r.config.*size->member);
  else if (const auto* number = std::get_if<NumberKey>(&key.meaning))
    read_number(r, value, r.config.*number->member, number->least, number->most);
  else
    read_together(r, std::get<TogetherKey>(key.meaning), value);
}

const Architecture& read_architecture(const GgufFile& file) {
  const std::string name(file.at("general.architecture").text());
  std::vector<std::string> known;
  for (const Architecture& each : architectures()) {
    known.emplace_back(each.name);
    if (known.back() == name) return each;
  }
  user_error("gguf", "{}: general.architecture is {}; implemented are {}.", file.path(), name,
             join(known, ", "));
}

// What llama.cpp divides the frequency of feature i by, for a scaling.
double frequency_divisor(const ModelConfig& c, const RopeScaling& s, int64_t i) {
  const double frequency =
      std::pow(c.rope_base, -2.0 * static_cast<double>(i) / static_cast<double>(c.d_head));
  const double turns = static_cast<double>(s.context) * frequency / (2 * std::numbers::pi);
  const double share = std::clamp((turns - s.low) / (s.high - s.low), 0.0, 1.0);
  return 1 / ((1 - share) / s.factor + share);
}

// The file keeps only the divisors. The scaling of Llama 3 has low 1 and high 4 in every published
// model; any original context that gives the same divisors gives the same model.
void read_rope_factors(Reading& r) {
  const GgufFile* file = r.model.file_of("rope_freqs.weight");
  ModelConfig& c = r.config;
  if (!file) return;
  const GgufEntry* entry = file->find_tensor("rope_freqs.weight");
  if (c.rope_scaling.kind != RopeKind::none)
    return r.problem("rope_freqs.weight and rope.scaling.type {} together are not implemented.",
                     r.rope.type);
  if (c.d_head < 2)
    return r.problem("heads of {} feature have no pairs that rope_freqs.weight could rotate.",
                     c.d_head);
  if (entry->shape != std::vector<int64_t>{c.d_head / 2})
    return r.problem("rope_freqs.weight has shape [{}]; [{}] is needed.",
                     fmt::join(entry->shape, ","), c.d_head / 2);
  const std::vector<float> divisors = file->to_f32(entry->name);
  RopeScaling s{.kind = RopeKind::llama3,
                .factor = *std::max_element(divisors.begin(), divisors.end())};
  if (!(s.factor >= 1 && std::isfinite(s.factor)))
    return r.problem("rope_freqs.weight has no factor >= 1.");
  for (s.context = 8; s.context <= 1 << 24; s.context *= 2) {
    bool same = true;
    for (size_t i = 0; i < divisors.size(); ++i) {
      const double expected = frequency_divisor(c, s, static_cast<int64_t>(i));
      same = same && std::abs(divisors[i] - expected) <= 1e-4 * expected;
    }
    if (!same) continue;
    if (s.factor != 1) c.rope_scaling = s;
    return;
  }
  r.problem(
      "rope_freqs.weight is no frequency scaling of Llama 3 (low factor 1, high factor 4), the "
      "only "
      "one that is implemented.");
}

void read_keys(Reading& r) {
  const std::string prefix = r.config.architecture + ".";
  const std::vector<ModelKey>& own = architecture_of(r.config).keys;
  std::vector<std::string> unknown;
  for (const GgufValue& value : r.file.values()) {
    if (!value.key().starts_with(prefix)) continue;
    const std::string name = value.key().substr(prefix.size());
    const auto key = std::find_if(own.begin(), own.end(), [&](const ModelKey& each) {
      return !name.empty() && each.gguf == name;
    });
    const auto common = std::find_if(common_keys().begin(), common_keys().end(),
                                     [&](const Key& each) { return each.name == name; });
    if (key != own.end())
      read_own(r, *key, value);
    else if (common != common_keys().end())
      common->read(r, value);
    else
      unknown.push_back(value.key());
  }
  if (!unknown.empty())
    r.problem("unknown keys, which might change the model: {}.", join(unknown, ", "));
  for (const ModelKey& key : own)
    if (key.gguf_needed && !r.file.find(prefix + key.gguf))
      r.problem("{}{} is missing; llama.cpp requires it.", prefix, key.gguf);
}

// What the keys make, as llama.cpp has it: without a type, a factor divides positions.
void settle_rope(Reading& r) {
  const RopeKeys& keys = r.rope;
  RopeScaling s;
  if (keys.type == "linear")
    s.kind = RopeKind::linear;
  else if (keys.type == "yarn")
    s.kind = RopeKind::yarn;
  else if (keys.type != "none")
    return r.problem(
        "{}.rope.scaling.type is {}, which is not implemented; none, linear and yarn are.",
        r.config.architecture, keys.type);
  s.factor = keys.factor != 0 ? keys.factor : keys.older_factor;
  if (s.factor == 0 || s.kind == RopeKind::none) return;
  if (s.kind == RopeKind::linear) {
    if (s.factor != 1) r.config.rope_scaling = s;
    return;
  }
  if (s.factor < 1) return r.problem("a factor of {} in YaRN: at least 1 is needed.", s.factor);
  if (keys.extrapolation >= 0 && keys.extrapolation != 1)
    return r.problem("rope.scaling.yarn_ext_factor is {}, which is not implemented; 1 is.",
                     keys.extrapolation);
  s.context = keys.context != 0 ? keys.context : r.config.context;
  s.fast = keys.fast;
  s.slow = keys.slow;
  s.amplitude = keys.amplitude * keys.yarn_amplitude * yarn_amplitude(s.factor);
  r.config.rope_scaling = s;
}

// Of architectures whose files have biases or have none.
void read_biases(Reading& r) {
  const Architecture& architecture = architecture_of(r.config);
  const auto has = [&](const char* tensor) { return r.model.file_of(tensor) != nullptr; };
  if (architecture.chooses_mlp_bias) r.config.mlp_bias = has("blk.0.ffn_down.bias");
  if (!architecture.chooses_attention_bias) return;
  const bool inputs = has("blk.0.attn_q.bias"), output = has("blk.0.attn_output.bias");
  if (inputs != output)
    r.problem(
        "blk.0 has biases on {} of attention, but none on {}, which is not implemented for {}.",
        inputs ? "the inputs" : "the output", inputs ? "the output" : "the inputs",
        r.config.architecture);
  r.config.attention_bias = inputs;
}

void read_tensors(Reading& r) {
  const GgufFile* file = r.model.file_of("token_embd.weight");
  const GgufEntry& embedding = (file ? *file : r.file).tensor("token_embd.weight");
  if (embedding.shape.size() == 2 && embedding.shape[0] <= kMostWidth)
    r.config.vocabulary = embedding.shape[0];
  else
    r.problem("token_embd.weight has shape [{}]; a matrix is needed.",
              fmt::join(embedding.shape, ","));
  r.config.tied = !r.model.file_of("output.weight");
  read_biases(r);
  if (architecture_of(r.config).block.positions != Positions::rotary) return;
  settle_rope(r);
  read_rope_factors(r);
}

}  // namespace

ModelConfig gguf_model_config(const GgufParts& model) {
  const GgufFile& file = model.metadata();
  Reading r{model, file};
  const Architecture& architecture = read_architecture(file);
  r.config = architecture.gguf_start;
  r.config.architecture = r.config.name = architecture.name;
  read_keys(r);
  if (r.problems.empty()) {
    if (architecture.gguf_derived) architecture.gguf_derived(r.config);
    r.config = resolved(r.config);
    read_tensors(r);
    if (r.rotary_features != 0 && r.rotary_features != r.config.d_head)
      r.problem("{} of {} features a head are rotated; all or none is implemented.",
                r.rotary_features, r.config.d_head);
  }
  if (r.problems.empty()) {
    try {
      check_config(r.config);
    } catch (const UserError& error) {
      r.problem("{}", error.what());
    }
  }
  Problems problems("gguf");
  for (const std::string& problem : r.problems)
    problems.add(fmt::format("{}: {}", file.path(), problem));
  problems.raise();
  return r.config;
}

}  // namespace weir
