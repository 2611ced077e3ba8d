#pragma once
// A run that starts from the weights of a checkpoint (key `init`) instead of random ones.
#include <string>
#include <vector>

#include "lab/train/checkpoint.h"
#include "lab/train/config.h"
#include "models/checkpoint.h"
#include "models/model.h"

namespace weir {

/// The value of `init` that a configuration's JSON and words give, "" if none.
std::string init_named_in(const std::string& json, const std::vector<std::string>& words);

/// `config` with the keys model.*, attention and v_scale.* as the checkpoint has them. User error:
/// the checkpoint cannot be read, or its model has something that no key says.
RunConfig with_model_of(const std::string& checkpoint, RunConfig config);

/// The model of a run with the weights that it starts from (of a configuration without `init`), the
/// vocabulary resolved. User error: a configuration with `init`.
ModelSource initial_source(const RunConfig& config);

/// The weights of a checkpoint for the parameters of a run. The constructor opens it and compares
/// names and shapes. User error: all weights that are missing or have another shape.
class InitialWeights {
 public:
  InitialWeights(const std::string& checkpoint, std::vector<Parameter> parameters);

  /// Reads everything once. Returns the hash of the values, as 32 hexadecimal digits; it does not
  /// depend on the type that they are stored in where that loses nothing. User error: values that
  /// are not finite.
  std::string check() const;
  /// Fills the states of a trainer; what the checkpoint does not have of the states that a rewrite
  /// adds keeps its value.
  void read(const std::vector<StateArray>& weights) const;

 private:
  Checkpoint checkpoint_;
  std::vector<Parameter> found_;  ///< those of the run that the checkpoint has
};

}  // namespace weir
