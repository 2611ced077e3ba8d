#pragma once
// The tokens that a tokenizer's files name for the begin and the end of texts.
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace weir {

struct NamedToken {
  int32_t id = 0;
  std::string text;    ///< as the file spells it, e.g. "<s>"
  std::string source;  ///< where it is said, e.g. "tokenizer_config.json: bos_token"
};

/// What the files of a tokenizer state about itself; nothing here changes what encode() gives.
struct SpecialTokens {
  std::optional<NamedToken> begin, end, pad;
  /// Whether `transformers` (or llama.cpp, for GGUF) puts the token around a text of its own
  /// accord.
  bool adds_begin = false;
  bool adds_end = false;
  /// Where these two are said, "" where nothing is said.
  std::string adds_source;
};

/// The id of a whole token, nothing when the vocabulary lacks it.
using TokenIds = std::function<std::optional<int32_t>(std::string_view)>;

/// Adds what tokenizer_config.json and special_tokens_map.json of the folder say, over what
/// `tokens` has (the post-processor of tokenizer.json): bos_token, eos_token and pad_token of
/// tokenizer_config.json, of special_tokens_map.json where the former lacks the key; add_bos_token
/// or add_eos_token of tokenizer_config.json decide both, the absent one as false. Names that are
/// no token of the vocabulary are left out. User error for a file that is not JSON.
void read_special_tokens(const std::string& folder, const TokenIds& ids, SpecialTokens& tokens);

}  // namespace weir
