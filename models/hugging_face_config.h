#pragma once
// config.json of Hugging Face `transformers`, read and written.
#include <string>

#include "models/config.h"

namespace weir {

/// Reads a configuration of a model_type that models/architectures.cpp has as `transformers` does:
/// a key that is absent has the default of the library's class for that model type; of two keys
/// that contradict, that counts which counts there, and a note of the configuration says so. One
/// user error lists keys that are unknown or given twice, and values that would change the model in
/// a way that is not implemented; keys that cannot change it (dropout, token ids, versions ...) are
/// passed over. `where` names the file in messages.
ModelConfig parse_hugging_face_config(const std::string& text, const std::string& where);

/// The text of a config.json with which `transformers` builds the model; `dtype` as it spells it
/// ("float32", "bfloat16", "float16").
std::string hugging_face_config(const ModelConfig& config, const std::string& dtype);

}  // namespace weir
