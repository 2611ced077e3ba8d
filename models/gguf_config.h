#pragma once
// The configuration of a model from the metadata of a GGUF file.
#include "io/gguf_parts.h"
#include "models/config.h"

namespace weir {

/// Of a `general.architecture` that models/architectures.cpp has. One user error lists the keys of
/// that architecture which are missing (those that llama.cpp requires are) or unknown, and the
/// values that are not implemented. The vocabulary is as large as the embedding; the output is tied
/// if there is no tensor output.weight; biases are those of the first block. Rotary scaling is that
/// of the keys rope.scaling.*, or recognised from the factors in rope_freqs.weight.
ModelConfig gguf_model_config(const GgufParts& model);

}  // namespace weir
