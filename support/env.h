#pragma once
// Every environment variable that Weir reads, in one table (env.cpp). `weir info` prints it.
#include <string>
#include <vector>

#include "support/usage_error.h"
#include "support/value_rule.h"

namespace weir {

struct EnvironmentVariable {
  const char* name;
  const char* meaning;
  const char* grammar;
  ValueRule rule = {};  ///< of a value that is not empty
  bool is_number = false;
};

const std::vector<EnvironmentVariable>& environment_variables();

/// The value of a variable of the table, "" when unset. Internal error for a name not in it.
std::string environment(const std::string& name);

/// Adds every variable of the table whose value is outside its rule.
void check_environment(UsageProblems& problems);
/// One sentence for each WEIR_ variable that is set and not in the table, with the nearest name.
std::vector<std::string> unknown_variables();

}  // namespace weir
