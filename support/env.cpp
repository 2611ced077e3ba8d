#include "support/env.h"

#include <cstdlib>

#include "support/error.h"

namespace weir {

const std::vector<EnvironmentVariable>& environment_variables() {
  static const std::vector<EnvironmentVariable> table = {
      {"WEIR_DEBUG", "what the compiler shows of its work",
       "comma-separated: dump[=PASS] print the graph after every pass (or one); verify check after "
       "every pass; time print a table of pass times; stop=N stop after N passes; dir=PATH write "
       "dumps as files instead of to stderr"},
      {"WEIR_CACHE", "folder of compiled kernels and tokenised text; 'off' disables it",
       "PATH or off; default $XDG_CACHE_HOME/weir, else ~/.cache/weir"},
      {"XDG_CACHE_HOME", "folder of caches of all programs, if WEIR_CACHE names none",
       "an absolute path"},
      {"HOME", "the user's folder, whose .cache is taken if neither of these two is set",
       "an existing folder"},
      {"WEIR_TARGET", "the CPU to compile for", "host, x86-64-v3 or x86-64-v4; default host"},
      {"WEIR_THREADS", "worker threads", "a positive number; default the number of cores"},
      {"WEIR_PERF", "describe compiled kernels to perf (codegen/README.md)", "1; default: no"},
      {"WEIR_LOG", "what is logged to stderr", "error, warning, info or debug; default info"},
  };
  return table;
}

std::string environment(const std::string& name) {
  for (const EnvironmentVariable& variable : environment_variables())
    if (name == variable.name) {
      const char* value = std::getenv(variable.name);
      return value ? value : "";
    }
  internal_error_at("environment variable " + name + " is not in the table");
}

}  // namespace weir
