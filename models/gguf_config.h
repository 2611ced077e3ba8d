#pragma once
// The configuration of a model from the metadata of a GGUF file.
#include "io/gguf.h"
#include "models/config.h"

namespace weir {

/// Of `general.architecture` llama (Mistral and SmolLM2, too), qwen2, qwen3 or gpt2. One user error
/// lists the keys of that architecture which are missing or unknown, and the values that are not
/// implemented. The vocabulary is as large as the embedding; the output is tied if there is no
/// tensor output.weight; rotary scaling is recognised from the factors in rope_freqs.weight.
ModelConfig gguf_model_config(const GgufFile& file);

}  // namespace weir
