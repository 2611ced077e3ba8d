#pragma once
// WEIR_DEBUG: what the runner of the passes shows. Its grammar stands in support/env.cpp.
#include <optional>
#include <string>
#include <vector>

namespace weir {

struct DebugOptions {
  bool dump_all = false;               ///< dump
  std::vector<std::string> dump = {};  ///< dump=PASS, may be given several times
  bool verify = false;                 ///< verify
  bool time = false;                   ///< time
  std::optional<int> stop = {};        ///< stop=N
  std::string folder = {};             ///< dir=PATH; "" is stderr

  bool dumps(const std::string& pass) const;
};

/// Reads the text of WEIR_DEBUG; one usage error lists everything wrong with it.
DebugOptions parse_debug_options(const std::string& text, const std::vector<std::string>& passes);
/// The options of the environment.
DebugOptions debug_options(const std::vector<std::string>& passes);

}  // namespace weir
