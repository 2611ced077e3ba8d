#include "passes/rewrites.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

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

template <typename Choices, typename Name>
ValueRule choice_rule(const Choices& choices, Name name) {
  std::vector<std::string> names;
  ShortForms short_forms;
  for (const auto& choice : choices) {
    names.emplace_back(name(choice));
    add_underscored(names.back(), short_forms);
  }
  return one_of(names, short_forms);
}

ValueRule token_rule() {
  ValueRule rule = within(0, 1 << 20);
  rule.refusals = {
      {"auto",
       "The heaviest key cannot be looked for: it may differ from layer to layer and from step to "
       "step, and at the start of a training attention is nearly uniform, under which token 0 has "
       "the largest mean mass in every causal model. `weir measure --sink-token auto` finds it in "
       "a trained model."}};
  return rule;
}

ValueRule normalizer_rule() {
  ValueRule rule = choice_rule(all_normalizers(), normalizer_name);
  const char* of_learned =
      "Softmax-1 with a learned b a head, exp(s - b) / (1 + sum exp(s - b)), is exp(s) / (exp(b) + "
      "sum exp(s)): that is sink-logit, whose z is b and starts at 0.";
  for (const char* name : {"softmax-1-learned", "softmax_1_learned", "learned-softmax-1",
                           "softmax-1-bias", "softmax-1-b"})
    rule.refusals.emplace_back(name, of_learned);
  return rule;
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

// Writes a choice by its name.
struct ReadChoice {
  const std::string& name;
  void operator()(VScaleVariant* variant) const { *variant = parse_v_scale_variant(name); }
  void operator()(AttentionNormalizer* variant) const { *variant = parse_normalizer(name); }
  void operator()(AttentionGate* variant) const { *variant = parse_attention_gate(name); }
  void operator()(ValueGate* variant) const { *variant = parse_value_gate(name); }
  void operator()(NormJacobian* variant) const { *variant = parse_norm_jacobian(name); }
  void operator()(const ValueSlot&) const { internal_error_at("a choice is no plain value"); }
};

}  // namespace

const std::vector<RewriteKey>& rewrite_keys() {
  using R = Rewrites;
  // clang-format off
  static const std::vector<RewriteKey> table = {
      {"attention", [](R& r) -> RewriteSlot { return &r.attention; }, normalizer_rule(),
       "how scores become weights; README.md has the formulas"},
      {"attention_gate", [](R& r) -> RewriteSlot { return &r.attention_gate; }, choice_rule(attention_gates(), attention_gate_name),
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
      {"value_gate.variant", [](R& r) -> RewriteSlot { return &r.value_gate.variant; }, choice_rule(value_gates(), value_gate_name),
       "head: values times a sigmoid of a trained map of the token's values, one a head"},
      {"value_gate.layers", [](R& r) -> RewriteSlot { return &r.value_gate.layers; }, within(0, 4095),
       "layers it applies to; empty: all"},
      {"sink_gradient.gain", [](R& r) -> RewriteSlot { return &r.sink_gradient.gain; }, within(0, 1e6),
       "factor of the gradient at one token's value; what is computed forward stays"},
      {"sink_gradient.token", [](R& r) -> RewriteSlot { return &r.sink_gradient.token; }, token_rule(),
       "that token, from 0"},
      {"sink_gradient.layers", [](R& r) -> RewriteSlot { return &r.sink_gradient.layers; }, within(0, 4095),
       "layers it applies to; empty: all"},
      {"norm_jacobian.variant", [](R& r) -> RewriteSlot { return &r.norm_jacobian.variant; }, choice_rule(norm_jacobians(), norm_jacobian_name),
       "without-rms: gradients pass RMSNorm without being divided by the rms of its input"},
      {"norm_jacobian.layers", [](R& r) -> RewriteSlot { return &r.norm_jacobian.layers; }, within(0, 4095),
       "blocks it applies to; empty: all norms of the residual stream"},
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
  std::visit(ReadChoice{choice}, slot);
  return "";
}

const std::vector<RewriteRow>& rewrite_rows() {
  using G = const GraphPtr&;
  using R = const Rewrites&;
  // clang-format off
  static const std::vector<RewriteRow> rows = {
      {"v_scale", [](R r) { return r.v_scale.variant != VScaleVariant::none; },
       [](G g, R r) { return apply_v_scale(g, r.v_scale); },
       "a change of the model comes before its gradient"},
      {"qk_norm", [](R r) { return r.qk_norm; },
       [](G g, R) { return apply_qk_norm(g); },
       "another change of the model"},
      {"attention_gate", [](R r) { return r.attention_gate != AttentionGate::none; },
       [](G g, R r) { return apply_attention_gate(g, r.attention_gate); },
       "another, which finds what the value projection reads"},
      {"value_gate", [](R r) { return r.value_gate.variant != ValueGate::none; },
       [](G g, R r) { return apply_value_gate(g, r.value_gate); },
       "gates values, hence behind V-scale and before a learned value"},
      {"sink_gradient", [](R r) { return r.sink_gradient.gain != 1; },
       [](G g, R r) { return apply_sink_gradient(g, r.sink_gradient); },
       "changes the gradient at the values that these make"},
      {"attention_normalizer", [](R r) { return r.attention != AttentionNormalizer::softmax; },
       [](G g, R r) { return apply_attention_normalizer(g, r.attention); },
       "the last that changes values: a learned key may change values and output"},
      {"norm_jacobian", [](R r) { return r.norm_jacobian.variant != NormJacobian::exact; },
       [](G g, R r) { return apply_norm_jacobian(g, r.norm_jacobian); },
       "changes the gradient of norms, and nothing forward"},
  };
  // clang-format on
  return rows;
}

GraphPtr apply_rewrites(const GraphPtr& graph, const Rewrites& rewrites) {
  GraphPtr result = graph;
  for (const RewriteRow& row : rewrite_rows())
    if (row.wanted(rewrites)) result = row.apply(result, rewrites);
  return result;
}

bool is_idle(const Rewrites& rewrites, const std::string& key) {
  const auto constant_of = [&](const char* group, const char* main) {
    return key.starts_with(group) && key != std::string(group) + main;
  };
  return (constant_of("v_scale.", "variant") && rewrites.v_scale.variant == VScaleVariant::none) ||
         (constant_of("value_gate.", "variant") &&
          rewrites.value_gate.variant == ValueGate::none) ||
         (constant_of("sink_gradient.", "gain") && rewrites.sink_gradient.gain == 1) ||
         (constant_of("norm_jacobian.", "variant") &&
          rewrites.norm_jacobian.variant == NormJacobian::exact);
}

std::vector<std::pair<std::string, std::vector<int64_t>>> layers_by_key(const Rewrites& rewrites) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> lists;
  Rewrites copy = rewrites;
  for (const RewriteKey& key : rewrite_keys()) {
    if (!std::string_view(key.name).ends_with(".layers")) continue;
    const RewriteSlot slot = key.slot(copy);
    lists.emplace_back(key.name, *std::get<std::vector<int64_t>*>(std::get<ValueSlot>(slot)));
  }
  return lists;
}

std::string check_layers(const std::string& name, const std::vector<int64_t>& layers,
                         int64_t layers_of_model) {
  for (int64_t layer : layers)
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
  for (const auto& [name, layers] : layers_by_key(rewrites))
    wrong.push_back(check_layers(name, layers, layers_of_model));
  std::erase(wrong, "");
  if (!wrong.empty()) user_error(topic, "{}", join(wrong, " "));
  return rewrites;
}

}  // namespace weir
