#include "models/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr int64_t kMostLayers = 4096, kMostHeads = 1 << 16, kMostWidth = 1 << 24;

struct Reading {
  const GgufFile& file;
  ModelConfig config;
  int64_t rotary_features = 0;
  std::vector<std::string> problems;

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

Read size(int64_t ModelConfig::* member, int64_t most) {
  return [=](Reading& r, const GgufValue& v) { read_size(r, v, most, r.config.*member); };
}

// An f32 stands for its shortest decimal: 1e-05, not 9.999999747378752e-06.
double decimal(const GgufValue& value) {
  if (value.kind() != GgufKind::f32) return value.number();
  return std::stod(fmt::format("{}", static_cast<float>(value.number())));
}

Read number(double ModelConfig::* member) {
  return [=](Reading& r, const GgufValue& value) {
    if (const double given = decimal(value); std::isfinite(given) && given >= 0)
      r.config.*member = given;
    else
      r.problem("{} is {}; a number >= 0 is needed.", value.key(), given);
  };
}

void ignored(Reading&, const GgufValue&) {}

void read_value_length(Reading& r, const GgufValue& value) {
  int64_t length = 0;
  read_size(r, value, kMostHeads, length);
  const GgufValue* keys =
      r.file.find(architecture_name(r.config.architecture) + ".attention.key_length");
  if (keys && keys->whole() != length)
    r.problem("values have {} features a head, but keys {}, which is not implemented.", length,
              keys->whole());
}

void read_scaling_type(Reading& r, const GgufValue& value) {
  if (value.text() != "none")
    r.problem("{} is {}, which is not implemented; none is, and the factors in rope_freqs.weight.",
              value.key(), value.text());
}

struct Key {
  const char* name;  ///< after the architecture and a dot
  Read read;
  bool required = false;
};

// clang-format off
// The keys of an architecture that are understood; others might change the model.
const std::vector<Key>& keys() {
  using C = ModelConfig;
  static const std::vector<Key> table = {
      {"block_count", size(&C::layers, kMostLayers), true},
      {"embedding_length", size(&C::d_model, kMostWidth), true},
      {"feed_forward_length", size(&C::d_ff, kMostWidth), true},
      {"attention.head_count", size(&C::heads, kMostHeads), true},
      {"attention.head_count_kv", size(&C::kv_heads, kMostHeads)},
      {"attention.key_length", size(&C::d_head, kMostHeads)},
      {"attention.value_length", read_value_length},
      {"attention.layer_norm_rms_epsilon", number(&C::rms_eps)},
      {"attention.layer_norm_epsilon", number(&C::rms_eps)},
      {"attention.sliding_window", size(&C::window, 1LL << 40)},
      {"context_length", size(&C::context, 1LL << 40)},
      {"rope.freq_base", number(&C::rope_base)},
      {"rope.dimension_count", [](Reading& r, const GgufValue& v) { read_size(r, v, kMostHeads, r.rotary_features); }},
      {"rope.scaling.type", read_scaling_type},
      {"rope.scaling.factor", ignored},                   // of a type that is refused, or of none
      {"rope.scaling.original_context_length", ignored},  // likewise
      {"rope.scaling.finetuned", ignored},
      {"vocab_size", ignored},                            // the embedding says it
      {"tensor_data_layout", ignored},
      {"use_parallel_residual", ignored},                 // of another architecture
  };
  return table;
}
// clang-format on

Architecture read_architecture(const GgufFile& file) {
  const std::string name(file.at("general.architecture").text());
  std::vector<std::string> known;
  for (Architecture each :
       {Architecture::llama, Architecture::qwen2, Architecture::qwen3, Architecture::gpt2}) {
    known.push_back(architecture_name(each));
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
  const GgufEntry* entry = r.file.find_tensor("rope_freqs.weight");
  ModelConfig& c = r.config;
  if (!entry) return;
  if (c.d_head < 2)
    return r.problem("heads of {} feature have no pairs that rope_freqs.weight could rotate.",
                     c.d_head);
  if (entry->shape != std::vector<int64_t>{c.d_head / 2})
    return r.problem("rope_freqs.weight has shape [{}]; [{}] is needed.",
                     fmt::join(entry->shape, ","), c.d_head / 2);
  const std::vector<float> divisors = r.file.to_f32(entry->name);
  RopeScaling s{.factor = *std::max_element(divisors.begin(), divisors.end())};
  if (!(s.factor >= 1 && std::isfinite(s.factor)))
    return r.problem("rope_freqs.weight has no factor >= 1.");
  for (s.context = 8; s.context <= 1 << 24; s.context *= 2) {
    bool same = true;
    for (size_t i = 0; i < divisors.size(); ++i) {
      const double expected = frequency_divisor(c, s, static_cast<int64_t>(i));
      same = same && std::abs(divisors[i] - expected) <= 1e-4 * expected;
    }
    if (!same) continue;
    c.rope_scaling = s;
    return;
  }
  r.problem(
      "rope_freqs.weight is no frequency scaling of Llama 3 (low factor 1, high factor 4), the "
      "only "
      "one that is implemented.");
}

void read_keys(Reading& r) {
  const std::string prefix = architecture_name(r.config.architecture) + ".";
  std::vector<std::string> unknown;
  for (const GgufValue& value : r.file.values()) {
    if (!value.key().starts_with(prefix)) continue;
    const std::string name = value.key().substr(prefix.size());
    auto key = std::find_if(keys().begin(), keys().end(),
                            [&](const Key& each) { return each.name == name; });
    if (key == keys().end())
      unknown.push_back(value.key());
    else
      key->read(r, value);
  }
  if (!unknown.empty())
    r.problem("unknown keys, which might change the model: {}.", join(unknown, ", "));
  for (const Key& key : keys())
    if (key.required && !r.file.find(prefix + key.name))
      r.problem("{}{} is missing.", prefix, key.name);
}

void read_tensors(Reading& r) {
  const GgufEntry& embedding = r.file.tensor("token_embd.weight");
  if (embedding.shape.size() == 2 && embedding.shape[0] <= kMostWidth)
    r.config.vocabulary = embedding.shape[0];
  else
    r.problem("token_embd.weight has shape [{}]; a matrix is needed.",
              fmt::join(embedding.shape, ","));
  r.config.tied = !r.file.find_tensor("output.weight");
  if (r.config.architecture != Architecture::gpt2) read_rope_factors(r);
}

}  // namespace

ModelConfig gguf_model_config(const GgufFile& file) {
  Reading r{file, {}, 0, {}};
  r.config.architecture = read_architecture(file);
  r.config.name = architecture_name(r.config.architecture);
  if (const GgufValue* count = file.find("split.count"); count && count->whole() > 1)
    user_error("gguf", "{} is one of {} parts of a model. Merge them (llama-gguf-split --merge).",
               file.path(), count->whole());
  read_keys(r);
  if (r.problems.empty()) {
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
