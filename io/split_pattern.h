#pragma once
// A regular expression that cuts text into pieces, as the pre-tokenizers of Hugging Face do.
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace weir {

/// GPT-2's pattern (encoder.py): contractions, words, numbers, other signs, white space.
extern const char* const kGpt2Pattern;
/// Qwen2's and Llama 3's patterns, as their tokenizer.json have them.
extern const char* const kQwen2Pattern;
extern const char* const kLlama3Pattern;
/// One digit as the pre-tokenizer `Digits` sees it: any number of Unicode 17.
std::string digit_pattern();
/// A text as the pattern that matches it and nothing else.
std::string literal_pattern(std::string_view text);

/// Compiled by Oniguruma in its Ruby syntax, which is what Hugging Face's library uses. Properties
/// (`\p{L}`, `\w`, `\d`, `\b`, `[[:alpha:]]`) are those of Unicode 16, as there. Immutable; may be
/// used from several threads.
class SplitPattern {
 public:
  /// UserError "[tokenizer] ..." for a pattern that does not compile, or that asks for text
  /// segments (`\X`, `\y`, `\Y`), whose rules differ between versions of Oniguruma.
  explicit SplitPattern(const std::string& pattern);
  ~SplitPattern();
  SplitPattern(SplitPattern&&) noexcept;
  SplitPattern& operator=(SplitPattern&&) noexcept;

  /// Calls visit(piece, is_match) for the matches in `text` (valid UTF-8) and the gaps between
  /// them, in order; together they are the text. A match may be empty (an empty one right after
  /// another match is not one); a gap is not.
  void split(std::string_view text, const std::function<void(std::string_view, bool)>& visit) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace weir
