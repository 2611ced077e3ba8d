#include "ir/rewrite_state.h"

namespace weir {

const std::vector<RewriteState>& rewrite_states() {
  static const std::vector<RewriteState> table = {
      {"v_scale.theta", 0, false, "the result is that of V-scale full"},
      {"sinks", 0, false, "the result is that of softmax-1"},
      {"kv_bias.key", 0, false, "with such a value the result is that of softmax-1"},
      {"kv_bias.value", 0, false, "with such a key the result is that of softmax-1"},
      {"qk_norm.query", 1, false, "the norm of queries has no gain"},
      {"qk_norm.key", 1, false, "the norm of keys has no gain"},
      {"output_gate.weight", 0, true, "all gates are 1/2"},
      {"value_gate.weight", 0, true, "all gates are 1/2, values are halved"},
  };
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

}  // namespace weir
