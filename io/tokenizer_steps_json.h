#pragma once
// The parts of a tokenizer.json around its model: what changes and cuts text, and what joins it
// again.
#include <nlohmann/json.hpp>

#include "io/bpe.h"

namespace weir {

class Problems;

/// An added token: content, normalized, single_word, lstrip, rstrip.
AddedToken added_token(const nlohmann::json& json, int32_t id);

/// Each adds to the model what the JSON of that part says, and to the problems what would change
/// ids and is not implemented.
void read_normalizer(const nlohmann::json& json, BpeModel& model, Problems& problems);
/// After the normalizer. Also decides model.characters: a chain that ends with ByteLevel is over
/// bytes.
void read_pre_tokenizer(const nlohmann::json& json, BpeModel& model, Problems& problems);
/// Of a model over characters; one over bytes needs none.
void read_decoder(const nlohmann::json& json, BpeModel& model, Problems& problems);
/// What is put around texts, which is told but not applied.
void read_post_processor(const nlohmann::json& json, SpecialTokens& special);

}  // namespace weir
