#pragma once
// A run that starts from the weights of a checkpoint (key `init`) instead of random ones.
#include <string>
#include <vector>

#include "lab/train/checkpoint.h"
#include "lab/train/config.h"
#include "models/model.h"

namespace weir {

/// The value of `init` that a configuration's JSON and words give, "" if none.
std::string init_named_in(const std::string& json, const std::vector<std::string>& words);

/// `config` with the keys model.*, attention and v_scale.* as the checkpoint has them. User error:
/// the checkpoint cannot be read, or its model has something that no key says.
RunConfig with_model_of(const std::string& checkpoint, RunConfig config);

/// Reads the checkpoint's weights; what it does not have of the states that a rewrite adds keeps
/// its value. With `weights` empty all is checked and nothing read. User error: all weights that
/// are missing or have another shape.
void read_initial_weights(const std::string& checkpoint, const std::vector<Parameter>& parameters,
                          const std::vector<StateArray>& weights);

}  // namespace weir
