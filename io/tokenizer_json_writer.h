#pragma once
// BPE models as files that Hugging Face `tokenizers` and `transformers` load.
#include <string>

#include "io/bpe.h"

namespace weir {

/// The text of a tokenizer.json that gives the ids of the model. Added tokens without the mark
/// `normalized` are written as special. Scores become merges in their order; of places where one
/// token can be made in two ways the format cannot prefer the leftmost (with "aa", "aaa" may be
/// made of "a" and "aa" or of "aa" and "a"), which is the usual loss of converted SentencePiece
/// models. User errors: what the format cannot say, as equal scores and steps after a prefix space.
std::string tokenizer_json(const BpeModel& model);

/// The text of the tokenizer_config.json beside it: the named tokens, and whether begin and end are
/// put around texts where that is said.
std::string tokenizer_config_json(const SpecialTokens& special);

}  // namespace weir
