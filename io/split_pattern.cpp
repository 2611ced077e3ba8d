#include "io/split_pattern.h"

#include <oniguruma.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include "io/unicode_age.h"
#include "io/utf8.h"
#include "support/error.h"

namespace weir {

const char* const kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::string digit_pattern() { return fmt::format("[\\p{{N}}{}]", kNewestNumbers); }

std::string literal_pattern(std::string_view text) {
  std::string out;
  for (char character : text) {
    if (std::string_view(R"(\.+*?()|[]{}^$#&-~)").find(character) != std::string_view::npos)
      out += '\\';
    out += character;
  }
  return out;
}

namespace {

/// A pattern for Hugging Face's Oniguruma in the words of the one at hand, which knows an older
/// Unicode: a property that has changed since is spelt as a class with what has come to it.
class Translation {
 public:
  explicit Translation(std::string_view pattern) : whole_(pattern), rest_(pattern) {}

  std::string text() {
    while (!rest_.empty()) {
      if (rest_.starts_with("\\p{") || rest_.starts_with("\\P{"))
        property();
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

  static bool is_word(std::string_view name) {
    constexpr std::string_view kWord = "word";
    return std::equal(name.begin(), name.end(), kWord.begin(), kWord.end(), [](char a, char b) {
      return std::tolower(static_cast<unsigned char>(a)) == b;
    });
  }

  /// A property under its name; `original` is how the pattern spells it.
  void put(std::string_view name, bool negated, std::string_view original) {
    // Six signs of Latin-1 are characters of a word for Oniguruma, but not inside a class.
    if (depth_ > 0 && is_word(name))
      out_ += fmt::format(R"([{}{}&&[^\x{{b2}}\x{{b3}}\x{{b9}}\x{{bc}}-\x{{be}}]])",
                          negated ? "^" : "", expect(unicode_16_class("Word", false)));
    else
      out_ += unicode_16_class(name, negated).value_or(std::string(original));
  }

  /// \p{L}, \P{L}, \p{^L}.
  void property() {
    const size_t end = std::min(rest_.find('}'), rest_.size() - 1) + 1;
    std::string_view name = rest_.substr(3, end - 4);
    bool negated = rest_[1] == 'P';
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    put(name, negated, rest_.substr(0, end));
    rest_.remove_prefix(end);
  }

  void escaped() {
    const std::string_view two = rest_.substr(0, 2);
    if (two == "\\w" || two == "\\W") {
      put("Word", two == "\\W", two);
    } else if (two == "\\d" || two == "\\D") {
      put("Nd", two == "\\D", two);
    } else if ((two == "\\b" || two == "\\B") && depth_ == 0) {
      boundary(two == "\\B");
    } else if ((two == "\\X" || two == "\\y" || two == "\\Y") && depth_ == 0) {
      user_error("tokenizer",
                 "the split pattern {} has {}, a rule about text segments that differs between "
                 "versions of Unicode; it is not supported. Tokenise elsewhere and give token ids.",
                 whole_, two);
    } else {
      return take(2);
    }
    rest_.remove_prefix(2);
  }

  /// \b and \B, by what is a word character on either side.
  void boundary(bool negated) {
    const std::string word = unicode_16_class("Word", false).value_or("\\w");
    out_ += negated ? fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word)
                    : fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word);
  }

  /// [:alpha:] or [:^alpha:] in a class; false when there is none here.
  bool posix_bracket() {
    const size_t end = rest_.find(":]", 2);
    if (depth_ == 0 || !rest_.starts_with("[:") || end == std::string_view::npos) return false;
    std::string_view name = rest_.substr(2, end - 2);
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    // Here the newer Oniguruma counts symbols as punctuation, in \p{Punct} it does not.
    if (name == "punct")
      out_ += fmt::format("[{}{}{}]", negated ? "^" : "", expect(unicode_16_class("P", false)),
                          expect(unicode_16_class("S", false)));
    else
      put(name, negated, rest_.substr(0, end + 2));
    rest_.remove_prefix(end + 2);
    return true;
  }

  void plain() {
    const char first = rest_[0];
    if (first == '[' && posix_bracket()) return;
    if (first == ']' && depth_ > 0) --depth_;
    if (first == '[') {
      ++depth_;
      take(rest_.starts_with("[^") ? 2 : 1);
      if (!rest_.starts_with(']')) return;  // a bracket that comes first stands for itself
    }
    take(1);
  }

  std::string_view whole_;
  std::string_view rest_;
  std::string out_;
  int depth_ = 0;  ///< classes that are open
};

const OnigUChar* bytes_of(std::string_view text) {
  return reinterpret_cast<const OnigUChar*>(text.data());
}

std::string message_of(int code, OnigErrorInfo* info) {
  std::array<OnigUChar, ONIG_MAX_ERROR_MESSAGE_LEN> buffer{};
  const int length = onig_error_code_to_str(buffer.data(), code, info);
  return {reinterpret_cast<const char*>(buffer.data()), static_cast<size_t>(length)};
}

/// The ranges of a match; kept by the thread for their memory.
OnigRegion* thread_region() {
  struct Region {
    OnigRegion* region = onig_region_new();
    ~Region() { onig_region_free(region, 1); }
  };
  thread_local Region mine;
  WEIR_CHECK(mine.region != nullptr, "out of memory");
  return mine.region;
}

}  // namespace

struct SplitPattern::Compiled {
  std::string pattern;
  OnigRegex regex = nullptr;
  ~Compiled() { onig_free(regex); }
};

SplitPattern::SplitPattern(const std::string& pattern) : compiled_(std::make_unique<Compiled>()) {
  static const int ready = [] {
    std::array<OnigEncoding, 1> encodings = {ONIG_ENCODING_UTF8};
    return onig_initialize(encodings.data(), 1);
  }();
  WEIR_CHECK(ready == ONIG_NORMAL, "Oniguruma does not start");
  const std::string text = Translation(pattern).text();
  compiled_->pattern = pattern;
  OnigErrorInfo info{};
  const int code = onig_new(&compiled_->regex, bytes_of(text), bytes_of(text) + text.size(),
                            ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_RUBY, &info);
  if (code != ONIG_NORMAL)
    user_error("tokenizer", "the split pattern {} does not compile: {}.", pattern,
               message_of(code, &info));
}

SplitPattern::~SplitPattern() = default;
SplitPattern::SplitPattern(SplitPattern&&) noexcept = default;
SplitPattern& SplitPattern::operator=(SplitPattern&&) noexcept = default;

void SplitPattern::split(std::string_view text,
                         const std::function<void(std::string_view, bool)>& visit) const {
  const OnigUChar* begin_of_text = bytes_of(text);
  const OnigUChar* end_of_text = begin_of_text + text.size();
  size_t piece = 0;  // first byte not yet given away
  size_t search = 0;
  std::optional<size_t> last;  // end of the last match
  while (search <= text.size()) {
    OnigRegion* region = thread_region();
    const int found = onig_search(compiled_->regex, begin_of_text, end_of_text,
                                  begin_of_text + search, end_of_text, region, ONIG_OPTION_NONE);
    if (found == ONIG_MISMATCH) break;
    if (found < 0)
      user_error("tokenizer", "the split pattern {} fails on a text of {} bytes: {}.",
                 compiled_->pattern, text.size(), message_of(found, nullptr));
    const auto begin = static_cast<size_t>(region->beg[0]);
    const auto end = static_cast<size_t>(region->end[0]);
    if (begin == end && last == end) {  // go on after the next character
      search += search < text.size() ? first_character(text.substr(search)).length : 1;
      continue;
    }
    search = end;
    last = end;
    if (begin > piece) visit(text.substr(piece, begin - piece), false);
    visit(text.substr(begin, end - begin), true);
    piece = end;
  }
  if (piece < text.size()) visit(text.substr(piece), false);
}

}  // namespace weir
