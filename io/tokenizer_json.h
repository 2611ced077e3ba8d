#pragma once
// Byte-level BPE models from the files of GPT-2 and of Hugging Face.
#include <string>
#include <string_view>

#include "io/bpe.h"

namespace weir {

/// GPT-2's two files. "<|endoftext|>", if in the vocabulary, becomes an added token, as everywhere.
BpeModel load_vocab_and_merges(const std::string& vocab_path, const std::string& merges_path);

/// A tokenizer.json of Hugging Face `tokenizers`: model BPE; pre-tokenizer ByteLevel, or a Sequence
/// of Split (Regex or String), Digits and a last ByteLevel. What would change ids and is not
/// implemented (another model, a normalizer other than NFC, dropout, affixes) is listed in one
/// UserError. Truncation, padding and the post-processor (begin and end tokens) are not
/// applied: a text is encoded whole and as it is.
BpeModel load_tokenizer_json(const std::string& path);
/// The same for text in memory; `source` names it in messages.
BpeModel parse_tokenizer_json(std::string_view text, const std::string& source);

}  // namespace weir
