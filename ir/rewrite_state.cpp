#include "ir/rewrite_state.h"

#include <algorithm>

namespace weir {

const std::vector<RewriteState>& rewrite_states() {
  // clang-format off
  static const std::vector<RewriteState> table = {
      {"v_scale.theta", 0, false, "the result is that of V-scale full", "v_scale.variant", "learned"},
      {"sinks", 0, false, "the result is that of softmax-1", "attention", "sink-logit", "", true},
      {"kv_bias.key", 0, false, "with such a value the result is that of softmax-1", "attention", "kv-bias"},
      {"kv_bias.value", 0, false, "with such a key the result is that of softmax-1", "attention", "kv-bias"},
      {"bayes_softmax.bias", 0, false, "every head counts as it does without it", "attention", "bayes-softmax"},
      {"qk_norm.query", 1, false, "the norm of queries has no gain", "qk_norm", "true"},
      {"qk_norm.key", 1, false, "the norm of keys has no gain", "qk_norm", "true"},
      {"output_gate.weight", 0, true, "all gates are 1/2", "attention_gate", "head", "element"},
      {"value_gate.weight", 0, true, "all gates are 1/2, values are halved", "value_gate.variant", "head"},
  };
  // clang-format on
  return table;
}

const RewriteState* find_rewrite_state(const std::string& name) {
  for (const RewriteState& row : rewrite_states())
    if (name == row.suffix || name.ends_with("." + std::string(row.suffix))) return &row;
  return nullptr;
}

double first_value_of(const std::string& name) {
  const RewriteState* row = find_rewrite_state(name);
  return row ? row->first : 0;
}

std::string setting_of(const RewriteState& state, const std::vector<int64_t>& shape,
                       int64_t heads) {
  const bool wide = !shape.empty() && shape[0] > heads;
  return wide && *state.wide_value ? state.wide_value : state.value;
}

bool is_chosen(const RewriteState& state, const std::map<std::string, std::string>& rewrites) {
  const auto found = rewrites.find(state.key);
  if (found == rewrites.end()) return false;
  std::string value = found->second;
  std::replace(value.begin(), value.end(), '_', '-');
  return value == state.value || (*state.wide_value && value == state.wide_value);
}

}  // namespace weir
