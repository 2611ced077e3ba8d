#pragma once
// A decoder of blocks that are described as data.
#include "models/block.h"
#include "models/model.h"

namespace weir {

/// The graph of a configuration's sizes with blocks of this description; hooks as models/README.md
/// lists them. User errors: those of check_config, and T tokens beyond learned positions or a
/// sliding window.
Model build_transformer(const ModelConfig& config, const BlockDescription& block, int64_t B,
                        int64_t T);

}  // namespace weir
