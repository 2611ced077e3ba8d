#include "support/env.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "support/text.h"
#include "support/usage_error.h"

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
      {"WEIR_TARGET", "the CPU to compile for", "host, x86-64-v3 or x86-64-v4; default host",
       one_of({"host", "x86-64-v3", "x86-64-v4"})},
      {"WEIR_THREADS", "worker threads", "1 to 4096; default the number of cores",
       within(1, kMaxThreads), true},
      {"WEIR_PERF", "describe compiled kernels to perf (codegen/README.md)", "1 or 0; default 0",
       one_of({"0", "1"})},
      {"WEIR_GDB", "name compiled kernels to gdb (codegen/README.md)", "1 or 0; default 0",
       one_of({"0", "1"})},
      {"WEIR_LOG", "what is logged to stderr", "error, warning, info or debug; default info",
       one_of({"error", "warning", "info", "debug"})},
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

void check_environment(UsageProblems& problems) {
  for (const EnvironmentVariable& variable : environment_variables()) {
    const std::string value = environment(variable.name);
    if (value.empty()) continue;
    std::string text;
    int64_t number = 0;
    const ValueSlot slot = variable.is_number ? ValueSlot(&number) : ValueSlot(&text);
    if (const std::string wrong = read_value(variable.name, value, slot, variable.rule);
        !wrong.empty())
      problems.add(wrong);
  }
}

std::vector<std::string> unknown_variables() {
  std::vector<std::string> names, unknown;
  constexpr std::string_view prefix = "WEIR_";
  for (const EnvironmentVariable& variable : environment_variables())
    if (const std::string_view name = variable.name; name.starts_with(prefix))
      names.emplace_back(name.substr(prefix.size()));
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view assignment = *entry;
    if (!assignment.starts_with(prefix)) continue;
    const std::string name(assignment.substr(prefix.size(), assignment.find('=') - prefix.size()));
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    std::string nearest_name = did_you_mean(name, names);
    if (!nearest_name.empty()) nearest_name.insert(nearest_name.find("mean ") + 5, prefix);
    unknown.push_back(fmt::format("{}{} is no variable of Weir, and does nothing.{}", prefix, name,
                                  nearest_name));
  }
  return unknown;
}

}  // namespace weir
