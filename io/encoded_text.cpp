#include "io/encoded_text.h"

#include <fmt/format.h>

#include "support/error.h"

namespace weir {

void EncodedText::add(const std::string& text, const Tokenizer& tokenizer,
                      const TextTokens& tokens) {
  bytes += text.size();
  std::vector<int32_t> document = tokenizer.encode(text);
  if (tokenizer.decode(document) != text) ++changed;
  if (document.empty()) return;
  if (documents++ > 0) {
    if (tokens.separator.id) {
      separators.push_back(ids.size());
      ids.push_back(*tokens.separator.id);
    } else if (tokens.separator_required) {
      raise_no_separator(tokenizer);
    }
  }
  ids.insert(ids.end(), document.begin(), document.end());
}

void raise_no_tokens(const std::string& names, uint64_t bytes, const Tokenizer& tokenizer) {
  if (bytes == 0) user_error("tokens", "there is no text in {}.", names);
  user_error("tokens",
             "the {} bytes of text in {} give no token: {} has none for any of its characters. "
             "Take another text or tokenizer.",
             bytes, names, tokenizer.description());
}

EncodedText encode_text(const TextSource& source, const Tokenizer& tokenizer,
                        const TextTokens& tokens, size_t wanted) {
  EncodedText encoded;
  DocumentReader reader(source);
  std::string text;
  while ((wanted == 0 || encoded.ids.size() < wanted) && reader.next(text))
    encoded.add(text, tokenizer, tokens);
  if (encoded.ids.empty()) raise_no_tokens(source.names(), encoded.bytes, tokenizer);
  return encoded;
}

std::string changed_note(const EncodedText& text) {
  if (text.changed == 0) return "";
  return fmt::format(
      "{} of {} documents do not decode to the same bytes; they are not UTF-8, not in the "
      "tokenizer's normal form, or hold bytes that it has no token for.",
      text.changed, text.documents);
}

}  // namespace weir
