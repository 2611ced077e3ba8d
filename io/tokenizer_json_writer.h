#pragma once
// Byte-level BPE models as files that Hugging Face `tokenizers` and `transformers` load.
#include <string>

#include "io/bpe.h"

namespace weir {

/// The text of a tokenizer.json that gives the ids of the model. Added tokens without the mark
/// `normalized` are written as special.
std::string tokenizer_json(const BpeModel& model);

/// The text of the tokenizer_config.json beside it. `end_of_text` is the token that ends documents,
/// "" if there is none.
std::string tokenizer_config_json(const std::string& end_of_text);

}  // namespace weir
