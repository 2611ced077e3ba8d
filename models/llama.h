#pragma once
// The decoders that descend from Llama, as the sink study has them (arXiv 2603.17771, section on
// models) and with the additions of Qwen2 and Qwen3.
#include <string>
#include <vector>

#include "models/config.h"
#include "models/model.h"

namespace weir {

/// "demo", "llama-0.1b", "llama-0.3b", "llama-1b".
std::vector<std::string> llama_config_names();
/// A named configuration; a user error lists the names otherwise.
ModelConfig llama_config(const std::string& name);

/// The graph of a configuration: build_model.
Model build_llama(const ModelConfig& config, int64_t B, int64_t T);

}  // namespace weir
