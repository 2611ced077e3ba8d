#pragma once
// The options by which `weir dump` and `weir probes` name a model.
#include <string>
#include <vector>

#include "lab/train/config.h"
#include "tools/command.h"
#include "tools/rewrite_options.h"

namespace weir {

struct ModelOptions {
  std::string model = "llama";
  int64_t layers = 0;  ///< 0: as the model has
  RewriteOptions rewrites;
  std::vector<std::string> settings;  ///< key=value

  /// With `checkpoints`, --model may be the folder or file of one.
  void add_to(OptionTable& table, bool checkpoints = false);
  bool names_checkpoint() const;
  /// Those of the options above that were given.
  std::vector<std::string> given() const;
  /// The configuration with its vocabulary resolved. UsageError as parse_config has it.
  RunConfig config() const;

 private:
  const OptionTable* table_ = nullptr;
};

}  // namespace weir
