#pragma once
// The weights that rewrites add to a model, by their names: how they start and whether weight decay
// applies to them. Passes add them, checkpoints know them, training and measuring fill them.
#include <string>
#include <vector>

namespace weir {

struct RewriteState {
  const char* suffix;  ///< of its name, behind the prefix of a layer
  /// What every element starts with where no checkpoint has it.
  double first;
  bool decays;
  const char* meaning;  ///< what that makes of the model, for messages
};

const std::vector<RewriteState>& rewrite_states();
/// The row of a state's name; null if it is none of them.
const RewriteState* find_rewrite_state(const std::string& name);
/// What it starts with; 0 for names that are not in the table.
double first_value_of(const std::string& name);

}  // namespace weir
