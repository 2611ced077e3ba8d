#pragma once
// The tokens that stand around text: which one separates documents, and which one begins a
// sequence.
#include <optional>
#include <string>

#include "io/tokenizer.h"

namespace weir {

/// A token that was chosen, and who chose it.
struct ChosenToken {
  std::optional<int32_t> id;  ///< nothing: no token
  std::string text;           ///< its spelling where that is known
  std::string source;         ///< e.g. "tokenizer_config.json: eos_token"; "" where nothing says it
};
/// "2 '<|im_end|>' (tokenizer_config.json: eos_token)", or "none (...)".
std::string to_string(const ChosenToken& token);

struct TextTokens {
  ChosenToken separator, begin;
  /// Whether two documents need a separator; not when the user said that there is none.
  bool separator_required = true;
};

/// The wish for the tokenizer's begin token where `transformers` would not put it.
inline constexpr const char* kTokenizersOwn = "tokenizer";

/// What a user may say: a token, its id, "none"; "" or "auto" leave it to the files. For the begin
/// token also "tokenizer".
struct TokenWishes {
  std::string separator = {}, begin = {};
  /// What messages call the two.
  std::string separator_name = "--separator", begin_name = "--begin-token";
};

/// The tokens for the tokenizer at `what` (as load_tokenizer takes it). The first that is there:
///
/// separator: the wish; the end token that the tokenizer's files name (eos_token of
///   tokenizer_config.json, then of special_tokens_map.json; tokenizer.ggml.eos_token_id of GGUF);
///   eos_token_id of config.json, then of generation_config.json beside it (the first of a list); a
///   token of a usual name (<|endoftext|>, <|end_of_text|>, </s>); byte 0 of the bytes.
/// begin: the wish, where "tokenizer" is the begin token that the tokenizer's files name (bos_token
///   of tokenizer_config.json, tokenizer.ggml.bos_token_id); the begin token of the tokenizer's
///   files where `transformers` puts it before a text (add_bos_token, or the post-processor's
///   template; tokenizer.ggml.add_bos_token); none.
///
/// UserError: a wish that is no token of the vocabulary, or a tokenizer without a begin token (all
/// of them at once).
TextTokens choose_text_tokens(const Tokenizer& tokenizer, const std::string& what,
                              const TokenWishes& wishes);

/// Throws the UserError of a second document without a separator.
[[noreturn]] void raise_no_separator(const Tokenizer& tokenizer, const TokenWishes& wishes = {});

}  // namespace weir
