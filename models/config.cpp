#include "models/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "models/architecture.h"
#include "support/error.h"
#include "support/value_rule.h"

namespace weir {

ModelConfig resolved(ModelConfig config) {
  if (config.kv_heads == 0) config.kv_heads = config.heads;
  if (config.d_head == 0 && config.heads > 0 && config.d_model % config.heads == 0)
    config.d_head = config.d_model / config.heads;
  if (config.score_width == 0) config.score_width = config.d_head;
  return config;
}

int64_t stated_context(const ModelConfig& config) {
  const RopeScaling& s = config.rope_scaling;
  if (s.kind != RopeKind::yarn && s.kind != RopeKind::llama3) return config.context;
  return std::max(config.context, static_cast<int64_t>(s.factor * static_cast<double>(s.context)));
}

const std::vector<std::string>& norm_places() {
  static const std::vector<std::string> names = {"pre", "post", "sandwich", "none"};
  return names;
}

namespace {

void check_heads(const ModelConfig& given, const ModelConfig& config, Problems& problems) {
  if (given.d_head == 0 && config.d_head == 0)
    problems.add(
        fmt::format("d_model {} is no multiple of heads {}. Change one of them, or set "
                    "d_head.",
                    config.d_model, config.heads));
  else if (config.d_head < 1)
    problems.add(fmt::format("d_head is {}, but at least 1 is needed.", config.d_head));
  if (config.kv_heads > 0 && config.heads % config.kv_heads != 0)
    problems.add(
        fmt::format("heads {} is no multiple of kv_heads {}. Each key head serves the same "
                    "number of query heads.",
                    config.heads, config.kv_heads));
  const Architecture& architecture = architecture_of(config);
  if (architecture.full_heads &&
      (config.kv_heads != config.heads || config.heads * config.d_head != config.d_model))
    problems.add(fmt::format(
        "heads {}, kv_heads {} and d_head {}: {} needs as many key heads as heads, "
        "and d_model {} / heads features in each.",
        config.heads, config.kv_heads, config.d_head, architecture.title, config.d_model));
  if (config.output_gate != OutputGate::none &&
      architecture.block.projections == Projections::joint)
    problems.add(fmt::format(
        "output_gate is chosen, but {} has no projection to q of its own that could make the "
        "gate's logits. The rewrite attention_gate takes any model.",
        architecture.title));
  if (architecture.block.positions == Positions::rotary && config.d_head % 2 != 0)
    problems.add(
        fmt::format("d_head is {}, but rotary embedding pairs features, so an even number "
                    "is needed.",
                    config.d_head));
}

void check_rope(const ModelConfig& config, Problems& problems) {
  if (!(config.rope_base > 1))
    problems.add(fmt::format("rope_base is {}, but a number > 1 is needed.", config.rope_base));
  const RopeScaling& s = config.rope_scaling;
  if (!(s.factor > 0 && s.low > 0 && s.high > s.low && s.context > 0))
    problems.add(
        fmt::format("rope scaling by factor {}, low {}, high {}, context {}: positive numbers with "
                    "low < high are needed.",
                    s.factor, s.low, s.high, s.context));
  if (!(s.slow > 0 && s.fast > 0 && s.amplitude > 0))
    problems.add(
        fmt::format("rope scaling by slow {}, fast {}, amplitude {}: positive numbers are needed.",
                    s.slow, s.fast, s.amplitude));
}

}  // namespace

void check_config(const ModelConfig& given) {
  Problems problems("model");
  const ModelConfig config = resolved(given);
  auto positive = [&](const char* key, int64_t value) {
    if (value < 1) problems.add(fmt::format("{} is {}, but at least 1 is needed.", key, value));
  };
  positive("layers", config.layers);
  positive("d_model", config.d_model);
  positive("heads", config.heads);
  positive("kv_heads", config.kv_heads);
  positive("d_ff", config.d_ff);
  positive("vocabulary", config.vocabulary);
  if (config.score_width < 0)
    problems.add(fmt::format("score_width is {}, but at least 1 is needed.", config.score_width));
  const std::vector<std::string>& places = norm_places();
  if (std::find(places.begin(), places.end(), config.norm_place) == places.end())
    problems.add(no_choice("norm_place", config.norm_place, places));
  if (config.norm_gate < 0)
    problems.add(
        fmt::format("norm_gate is {}, but a rank is needed, 0 for none.", config.norm_gate));
  check_heads(given, config, problems);
  if (!(config.rms_eps >= 0))
    problems.add(fmt::format("rms_eps is {}, but a number >= 0 is needed.", config.rms_eps));
  for (const auto& [key, cap] :
       {std::pair("score_cap", config.score_cap), {"logit_cap", config.logit_cap}})
    if (!(cap >= 0 && std::isfinite(cap)))
      problems.add(fmt::format("{} is {}, but a number >= 0 is needed, 0 for none.", key, cap));
  if (architecture_of(config).block.positions == Positions::rotary) check_rope(config, problems);
  problems.raise();
}

}  // namespace weir
