#include "passes/rewrites.h"

#include <fmt/format.h>

#include <algorithm>

#include "passes/attention_normalizer.h"
#include "passes/qk_norm.h"
#include "support/error.h"
#include "support/text.h"
#include "support/usage_error.h"

namespace weir {
namespace {

using ShortForms = std::vector<std::pair<std::string, std::string>>;

// "softmax_1" for softmax-1.
void add_underscored(const std::string& name, ShortForms& short_forms) {
  std::string underscored = name;
  std::replace(underscored.begin(), underscored.end(), '-', '_');
  if (underscored != name) short_forms.emplace_back(underscored, name);
}

ValueRule normalizer_rule() {
  std::vector<std::string> names;
  ShortForms short_forms;
  for (AttentionNormalizer normalizer : all_normalizers()) {
    names.emplace_back(normalizer_name(normalizer));
    add_underscored(names.back(), short_forms);
  }
  return one_of(names, short_forms);
}

ValueRule gate_rule() {
  std::vector<std::string> names;
  for (AttentionGate gate : attention_gates()) names.emplace_back(attention_gate_name(gate));
  return one_of(names);
}

ValueRule variant_rule() {
  std::vector<std::string> names;
  ShortForms short_forms;
  for (const VScaleInfo& row : v_scale_variants()) {
    names.emplace_back(row.name);
    add_underscored(row.name, short_forms);
    if (std::string(row.short_form) != row.name) short_forms.emplace_back(row.short_form, row.name);
  }
  return one_of(names, short_forms);
}

}  // namespace

const std::vector<RewriteKey>& rewrite_keys() {
  using R = Rewrites;
  // clang-format off
  static const std::vector<RewriteKey> table = {
      {"attention", [](R& r) -> RewriteSlot { return &r.attention; }, normalizer_rule(),
       "how scores become weights; README.md has the formulas"},
      {"attention_gate", [](R& r) -> RewriteSlot { return &r.attention_gate; }, gate_rule(),
       "sigmoid gate on what attention gives, of the layer's normalised input: one a head or a feature"},
      {"qk_norm", [](R& r) -> RewriteSlot { return &r.qk_norm; }, {},
       "RMSNorm over the features of each query and key head"},
      {"v_scale.variant", [](R& r) -> RewriteSlot { return &r.v_scale.variant; }, variant_rule(),
       "how values are scaled by their norm"},
      {"v_scale.lambda", [](R& r) -> RewriteSlot { return &r.v_scale.lambda; }, within(1e-9, 1e6),
       "factor of C = d_model d_head sigma^2 lambda"},
      {"v_scale.sigma", [](R& r) -> RewriteSlot { return &r.v_scale.sigma; }, within(1e-9, 1e3),
       "the initialiser's standard deviation in C"},
      {"v_scale.layers", [](R& r) -> RewriteSlot { return &r.v_scale.layers; }, within(0, 4095),
       "layers it applies to; empty: all"},
  };
  // clang-format on
  return table;
}

std::string read_rewrite(const std::string& name, const std::string& text, const RewriteSlot& slot,
                         const ValueRule& rule) {
  if (const auto* plain = std::get_if<ValueSlot>(&slot))
    return read_value(name, text, *plain, rule);
  // An enumeration, whose names are the choices.
  std::string choice;
  if (std::string wrong = read_value(name, text, &choice, rule); !wrong.empty()) return wrong;
  if (auto* const* variant = std::get_if<VScaleVariant*>(&slot))
    **variant = parse_v_scale_variant(choice);
  else if (auto* const* gate = std::get_if<AttentionGate*>(&slot))
    **gate = parse_attention_gate(choice);
  else
    *std::get<AttentionNormalizer*>(slot) = parse_normalizer(choice);
  return "";
}

GraphPtr apply_rewrites(const GraphPtr& graph, const Rewrites& rewrites) {
  GraphPtr result = apply_v_scale(graph, rewrites.v_scale);
  if (rewrites.qk_norm) result = apply_qk_norm(result);
  result = apply_attention_gate(result, rewrites.attention_gate);
  if (rewrites.attention != AttentionNormalizer::softmax)
    result = apply_attention_normalizer(result, rewrites.attention);
  return result;
}

std::string check_v_scale_layers(const std::string& name, const Rewrites& rewrites,
                                 int64_t layers_of_model) {
  for (int64_t layer : rewrites.v_scale.layers)
    if (layer < 0 || layer >= layers_of_model)
      return fmt::format("{} has {}, but the model has layers 0 to {}.", name, layer,
                         layers_of_model - 1);
  return "";
}

Rewrites parse_rewrites(const std::map<std::string, std::string>& settings, int64_t layers_of_model,
                        const char* topic) {
  Rewrites rewrites;
  std::vector<std::string> wrong, names;
  for (const RewriteKey& key : rewrite_keys()) names.emplace_back(key.name);
  for (const auto& [name, text] : settings) {
    const auto& keys = rewrite_keys();
    const auto key =
        std::find_if(keys.begin(), keys.end(), [&](const RewriteKey& k) { return name == k.name; });
    if (key == keys.end())
      wrong.push_back(
          fmt::format("unknown key '{}'.{}", short_text(name), did_you_mean(name, names)));
    else
      wrong.push_back(read_rewrite(name, text, key->slot(rewrites), key->rule));
  }
  wrong.push_back(check_v_scale_layers("v_scale.layers", rewrites, layers_of_model));
  std::erase(wrong, "");
  if (!wrong.empty()) user_error(topic, "{}", join(wrong, " "));
  return rewrites;
}

}  // namespace weir
