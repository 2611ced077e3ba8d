#pragma once
// GPT-2: LayerNorm with biases, learned positions, GELU, and matrices stored [in, out].
#include "models/config.h"
#include "models/model.h"

namespace weir {

Model build_gpt2(const ModelConfig& config, int64_t B, int64_t T);

}  // namespace weir
