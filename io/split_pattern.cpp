#include "io/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

#include "io/unicode_age.h"
#include "support/error.h"

namespace weir {

const char* const kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::string digit_pattern() { return fmt::format("[\\p{{N}}{}]", kNewestNumbers); }

namespace {

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

/// A pattern of Oniguruma (Unicode 16) in the language of PCRE2 (Unicode 14): \s and \S are spelt
/// as properties, which PCRE2 takes inside and outside classes, and categories that have grown are
/// spelt with what has come to them.
class Translation {
 public:
  explicit Translation(std::string_view pattern) : rest_(pattern) {}

  std::string text() {
    while (!rest_.empty()) {
      if (rest_.starts_with("\\p{") || rest_.starts_with("\\P{"))
        category();
      else if (rest_[0] == '\\')
        escaped();
      else
        plain();
    }
    return out_;
  }

 private:
  void take(size_t count) {
    out_ += rest_.substr(0, count);
    rest_.remove_prefix(std::min(count, rest_.size()));
  }

  void escaped() {
    if (rest_.starts_with("\\s"))
      out_ += "\\p{White_Space}";
    else if (rest_.starts_with("\\S"))
      out_ += "\\P{White_Space}";
    else
      return take(2);
    rest_.remove_prefix(2);
  }

  /// \p{L} and \P{L}. The latter inside a class would need a subtraction and stays as it is.
  void category() {
    const size_t end = std::min(rest_.find('}'), rest_.size() - 1) + 1;
    const std::string newer = newer_in_category(rest_.substr(3, end - 4));
    const bool negated = rest_[1] == 'P';
    if (newer.empty() || (negated && in_class_)) return take(end);
    if (!in_class_) out_ += negated ? "[^" : "[";
    out_ += "\\p";
    out_ += rest_.substr(2, end - 2);
    out_ += newer;
    if (!in_class_) out_ += ']';
    rest_.remove_prefix(end);
  }

  void plain() {
    const char first = rest_[0];
    if (first == ']') in_class_ = false;
    if (first == '[' && !in_class_) {
      in_class_ = true;
      take(rest_.starts_with("[^") ? 2 : 1);
      if (!rest_.starts_with(']')) return;  // a bracket that comes first stands for itself
    }
    take(1);
  }

  std::string_view rest_;
  std::string out_;
  bool in_class_ = false;
};

using MatchData = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;

}  // namespace

struct SplitPattern::Compiled {
  std::string pattern;
  pcre2_code* code = nullptr;
  ~Compiled() { pcre2_code_free(code); }
};

SplitPattern::SplitPattern(const std::string& pattern) : compiled_(std::make_unique<Compiled>()) {
  int error = 0;
  PCRE2_SIZE at = 0;
  std::string text = Translation(pattern).text();
  compiled_->pattern = pattern;
  compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                  PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr);
  if (compiled_->code == nullptr)
    user_error("tokenizer", "the split pattern {} does not compile: {} at its byte {} (as {}).",
               pattern, message_of(error), at, text);
  // Where PCRE2 has no code generator for the machine, its interpreter does the same slower.
  pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE);
}

SplitPattern::~SplitPattern() = default;
SplitPattern::SplitPattern(SplitPattern&&) noexcept = default;
SplitPattern& SplitPattern::operator=(SplitPattern&&) noexcept = default;

void SplitPattern::split(std::string_view text,
                         const std::function<void(std::string_view, bool)>& visit) const {
  const pcre2_code* code = compiled_->code;
  MatchData match(pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free);
  WEIR_CHECK(match != nullptr, "out of memory");
  auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t piece = 0;  // first byte not yet given away
  size_t search = 0;
  while (search < text.size()) {
    int found =
        pcre2_match(code, subject, text.size(), search, PCRE2_NO_UTF_CHECK, match.get(), nullptr);
    // A long match may need more stack than machine code has; the interpreter uses the heap.
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
      found = pcre2_match(code, subject, text.size(), search, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                          match.get(), nullptr);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0)
      user_error("tokenizer", "the split pattern {} fails on a text of {} bytes: {}.",
                 compiled_->pattern, text.size(), message_of(found));
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
    size_t begin = range[0];
    size_t end = range[1];
    if (begin == end) {  // an empty match cuts nothing; go on after the next character
      search = end + 1;
      while (search < text.size() && (static_cast<unsigned char>(text[search]) & 0xC0) == 0x80)
        ++search;
      continue;
    }
    if (begin > piece) visit(text.substr(piece, begin - piece), false);
    visit(text.substr(begin, end - begin), true);
    piece = search = end;
  }
  if (piece < text.size()) visit(text.substr(piece), false);
}

}  // namespace weir
