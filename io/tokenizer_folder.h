#pragma once
// Tokenizers whose folder has no tokenizer.json: what its other files say.
#include <string>

#include "io/bpe.h"

namespace weir {

/// vocab.json with the merges.txt beside it. Whose they are is said by tokenizer_class of
/// tokenizer_config.json, else by tokenizer_class or model_type of config.json: GPT2Tokenizer,
/// CodeGenTokenizer or Qwen2Tokenizer, with or without "Fast" (which are also what transformers
/// takes for these model types). Where neither says it, the vocabulary must be GPT-2's own.
/// Added tokens are those of added_tokens_decoder, else of special_tokens_map.json and
/// added_tokens.json; then the named tokens of the configuration and the class's own. Ids are those
/// of transformers 5. User errors: another class, with the way out; files that do not agree.
BpeModel load_vocabulary_folder(const std::string& vocab_path);

/// Adds the added tokens of a folder whose ids come after those of the vocabulary.
void add_tokens_past_vocabulary(const std::string& folder, BpeModel& model);

}  // namespace weir
