#pragma once
// The tokenizer.model of SentencePiece: a message of protocol buffers with pieces, scores and how
// text is changed before them. Format: sentencepiece_model.proto.
#include <string>

#include "io/bpe.h"

namespace weir {

/// A model of the type BPE. Ids are those of SentencePiece's own encoder: control pieces ("<s>")
/// are not found in text, user-defined ones are, and white space is removed if the model says so.
/// Of the files beside it the added tokens with ids past the pieces are taken (added_tokens_decoder
/// of tokenizer_config.json, or added_tokens.json). UserError that lists what is damaged or not
/// implemented: other model types (Unigram), rules that change characters (nmt_nfkc), unused
/// pieces, white space as a suffix.
BpeModel load_sentencepiece_model(const std::string& path);

}  // namespace weir
