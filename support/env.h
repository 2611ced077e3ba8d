#pragma once
// Every environment variable that Weir reads, in one table (env.cpp). `weir info` prints it.
#include <string>
#include <vector>

namespace weir {

struct EnvironmentVariable {
  const char* name;
  const char* meaning;
  const char* grammar;
};

const std::vector<EnvironmentVariable>& environment_variables();

/// The value of a variable of the table, "" when unset. Internal error for a name not in it.
std::string environment(const std::string& name);

}  // namespace weir
