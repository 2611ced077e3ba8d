#pragma once
// What Hugging Face `transformers` takes for keys that a config.json leaves out, as data.
#include <nlohmann/json_fwd.hpp>

namespace weir {

/// An object with a member for each model_type: `defaults` by key, the keys that may be `nullable`,
/// and `aliases` (another name of a key to the key). `generation` lists parameters of generation
/// that a config.json may carry and no model reads. Made by tests/reference/config_defaults.py.
const nlohmann::ordered_json& hugging_face_defaults();

}  // namespace weir
