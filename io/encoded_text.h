#pragma once
// Text as token ids that are used once: measured, evaluated, or written to a file. What is trained
// on comes from io/token_cache.h.
#include "io/text_source.h"
#include "io/text_tokens.h"

namespace weir {

/// Ids of documents one after the other, a separator between two if there is one; begin tokens are
/// left to those who cut sequences. A document without ids adds nothing.
struct EncodedText {
  std::vector<int32_t> ids;
  std::vector<size_t> separators;  ///< places of ids that are not of the text, ascending
  size_t documents = 0;            ///< documents that have ids
  size_t bytes = 0;                ///< of all documents that were read
  size_t changed = 0;              ///< documents that do not decode to the same bytes

  /// Appends a document. UserError: a second one where a separator is needed and not known.
  void add(const std::string& text, const Tokenizer& tokenizer, const TextTokens& tokens);
};

/// Says why there is no id: files without text, or with text that the tokenizer has no token for.
[[noreturn]] void raise_no_tokens(const std::string& names, uint64_t bytes,
                                  const Tokenizer& tokenizer);

/// Reads documents until there are `wanted` ids (0: all of them). UserError: a source without
/// tokens, and that of EncodedText::add.
EncodedText encode_text(const TextSource& source, const Tokenizer& tokenizer,
                        const TextTokens& tokens, size_t wanted = 0);

/// What to tell of documents that changed, "" if none did.
std::string changed_note(const EncodedText& text);

}  // namespace weir
