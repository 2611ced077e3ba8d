#pragma once
// Random command lines and configurations, made from the tables of options, keys and variables.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace weir::test {

struct CommandLine {
  std::vector<std::string> words;                ///< after "weir"
  std::map<std::string, std::string> variables;  ///< of the environment
  std::string config;                            ///< the text of "config.json", "" for none

  /// As a shell takes it.
  std::string text() const;
};

/// The line of a number, the same on every machine for one seed. Inputs are in `fixture`, outputs
/// go into the current folder. Values are valid and cheap, at the ends of their range, or hostile;
/// what would only make a valid command long is left out.
CommandLine make_command_line(uint64_t seed, uint64_t number, const std::string& fixture);

}  // namespace weir::test
