#pragma once
// The options by which `weir dump` and `weir probes` name a model.
#include <string>
#include <vector>

#include "lab/config.h"
#include "tools/command.h"

namespace weir {

struct ModelOptions {
  std::string model = "llama";
  int64_t layers = 0;  ///< 0: as the model has
  std::string v_scale, attention;
  std::vector<std::string> settings;  ///< key=value

  void add_to(CLI::App& command);
  /// The configuration with its vocabulary resolved.
  RunConfig config() const;
};

}  // namespace weir
