#pragma once
// The weights that rewrites add to a model, by their names: how they start, whether weight decay
// applies to them, and which rewrite they belong to. Passes add them, checkpoints know them,
// training and measuring fill them.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace weir {

struct RewriteState {
  const char* suffix;  ///< of its name, behind the prefix of a layer
  /// What every element starts with where no checkpoint has it.
  double first;
  bool decays;
  const char* meaning;  ///< what that makes of the model, for messages
  /// The rewrite that it belongs to, as a configuration and `weir_rewrites` of a config.json name
  /// it: the key, and its value; another where the state has more rows than a layer has heads.
  const char* key;
  const char* value;
  const char* wide_value = "";
  /// Whether models that Weir did not train are published with it, under this name and with this
  /// meaning (gpt-oss: self_attn.sinks), so that the tensors alone say which rewrite it is.
  bool published = false;
};

const std::vector<RewriteState>& rewrite_states();
/// The row of a state's name; null if it is none of them.
const RewriteState* find_rewrite_state(const std::string& name);
/// What it starts with; 0 for names that are not in the table.
double first_value_of(const std::string& name);
/// The value of the state's key to which a tensor of that shape belongs in a model of so many
/// heads.
std::string setting_of(const RewriteState& state, const std::vector<int64_t>& shape, int64_t heads);
/// Whether settings by key choose a rewrite that has the state.
bool is_chosen(const RewriteState& state, const std::map<std::string, std::string>& rewrites);

}  // namespace weir
