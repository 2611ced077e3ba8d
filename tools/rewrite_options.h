#pragma once
// The options that rewrite a model: V-scale with its constants, and the attention normaliser. They
// come from the table of rewrites (passes/rewrites.h).
#include <map>
#include <string>

#include "passes/rewrites.h"
#include "tools/options.h"

namespace weir {

class RewriteOptions {
 public:
  void add_to(OptionTable& table);
  /// Sets what was given over what `rewrites` has. UsageError for constants of no V-scale, and for
  /// a layer that is not below `layers_of_model`.
  void apply(Rewrites& rewrites, int64_t layers_of_model) const;
  bool any_given() const;

 private:
  const OptionTable* table_ = nullptr;
  // Where the table reads values to; what is given is read once more, over what the model has.
  Rewrites read_;
  std::map<std::string, std::string> choices_;
};

}  // namespace weir
