#pragma once
// The options that rewrite a model: V-scale with its constants, and the attention normaliser.
#include <string>
#include <vector>

#include "passes/pass.h"
#include "tools/options.h"

namespace weir {

struct RewriteOptions {
  std::string v_scale, attention;  ///< "" is not given
  double lambda = 1, sigma = 0.02;
  std::vector<int64_t> layers;

  void add_to(OptionTable& table);
  /// Sets what was given over what `options` has. UsageError for constants of no V-scale, and for a
  /// layer that is not below `layers_of_model`.
  void apply(CompileOptions& options, int64_t layers_of_model) const;
  bool any_given() const;

 private:
  const OptionTable* table_ = nullptr;
};

}  // namespace weir
