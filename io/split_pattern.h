#pragma once
// A regular expression that cuts text into pieces, as the pre-tokenizers of Hugging Face do.
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace weir {

/// GPT-2's pattern (encoder.py): contractions, words, numbers, other signs, white space.
extern const char* const kGpt2Pattern;
/// One digit as the pre-tokenizer `Digits` sees it: any number of Unicode 17.
std::string digit_pattern();

/// Compiled by PCRE2 in UTF mode with Unicode properties, and to machine code where PCRE2 can.
/// `\s` and `\S` mean the Unicode property White_Space, as in Oniguruma (PCRE2's own `\s` takes
/// U+180E too). Categories such as `\p{L}` are those of Unicode 16, as there. Immutable; may be
/// used from several threads.
class SplitPattern {
 public:
  /// UserError "[tokenizer] ..." for a pattern that does not compile.
  explicit SplitPattern(const std::string& pattern);
  ~SplitPattern();
  SplitPattern(SplitPattern&&) noexcept;
  SplitPattern& operator=(SplitPattern&&) noexcept;

  /// Calls visit(piece, is_match) for all non-empty pieces of `text` (valid UTF-8) in order;
  /// matches and the gaps between them together are the text.
  void split(std::string_view text, const std::function<void(std::string_view, bool)>& visit) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace weir
