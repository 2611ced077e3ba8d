#pragma once
// BPE models from the tokenizer.json of Hugging Face, and from the two files of GPT-2.
#include <string>
#include <string_view>

#include "io/bpe.h"

namespace weir {

/// A tokenizer.json of Hugging Face `tokenizers` with a model BPE, over bytes (a pre-tokenizer that
/// ends with ByteLevel) or over characters (Llama 2, Mistral, Gemma). What would change ids and is
/// not implemented (another model, other normalizers, pre-tokenizers or decoders, dropout, affixes)
/// is listed in one UserError. Truncation, padding and the post-processor (begin and end tokens)
/// are not applied: a text is encoded whole and as it is.
BpeModel load_tokenizer_json(const std::string& path);
/// The same for text in memory; `source` names it in messages.
BpeModel parse_tokenizer_json(std::string_view text, const std::string& source);

/// Vocabulary and merges of the two files, and nothing else: how text is cut, and which tokens are
/// added, they do not say (tokenizer_folder.h).
BpeModel load_vocab_and_merges(const std::string& vocab_path, const std::string& merges_path);

}  // namespace weir
