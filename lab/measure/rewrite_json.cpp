#include "lab/measure/rewrite_json.h"

#include <algorithm>
#include <string_view>

namespace weir {
namespace {

struct ToJson {
  using Json = nlohmann::ordered_json;
  Json operator()(const VScaleVariant* v) const { return v_scale_variant_name(*v); }
  Json operator()(const AttentionNormalizer* v) const { return normalizer_name(*v); }
  Json operator()(const AttentionGate* v) const { return attention_gate_name(*v); }
  Json operator()(const ValueGate* v) const { return value_gate_name(*v); }
  Json operator()(const NormJacobian* v) const { return norm_jacobian_name(*v); }
  Json operator()(const ValueSlot& slot) const {
    return std::visit([](const auto* v) -> Json { return *v; }, slot);
  }
};

}  // namespace

nlohmann::ordered_json rewrite_json(const RewriteSlot& slot) { return std::visit(ToJson{}, slot); }

void state_rewrites(const Rewrites& rewrites, nlohmann::ordered_json& settings) {
  constexpr std::string_view variant = ".variant";
  Rewrites stated = rewrites, defaults;
  for (const RewriteKey& key : rewrite_keys()) {
    std::string name = key.name;
    if (name == "attention" || name.starts_with("v_scale.") || is_idle(rewrites, name)) continue;
    const nlohmann::ordered_json value = rewrite_json(key.slot(stated));
    if (value == rewrite_json(key.slot(defaults))) continue;
    if (name.ends_with(variant)) name.resize(name.size() - variant.size());
    std::replace(name.begin(), name.end(), '.', '_');
    settings[name] = value;
  }
}

void state_all_rewrites(const Rewrites& rewrites, nlohmann::ordered_json& settings) {
  settings["attention"] = normalizer_name(rewrites.attention);
  settings["v_scale"] = v_scale_variant_name(rewrites.v_scale.variant);
  if (rewrites.v_scale.variant != VScaleVariant::none) {
    settings["v_scale_lambda"] = rewrites.v_scale.lambda;
    settings["v_scale_sigma"] = rewrites.v_scale.sigma;
    settings["v_scale_layers"] = rewrites.v_scale.layers;
  }
  state_rewrites(rewrites, settings);
}

}  // namespace weir
