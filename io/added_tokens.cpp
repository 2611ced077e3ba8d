#include "io/added_tokens.h"

#include "io/split_pattern.h"
#include "io/utf8.h"

namespace weir {
namespace {

/// A character of a word, as Unicode's annex 18 on regular expressions defines it.
bool in_word(std::string_view character) {
  static const SplitPattern pattern(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])");
  bool found = false;
  pattern.split(character, [&](std::string_view, bool is_match) { found = is_match; });
  return found;
}

}  // namespace

bool AddedMatcher::widen(const AddedToken& token, std::string_view text, size_t begin, size_t& from,
                         size_t& to) {
  if (token.single_word) {
    if (from > 0) {
      const size_t length = last_character(text.substr(0, from)).length;
      if (in_word(text.substr(from - length, length))) return false;
    }
    if (to < text.size() && in_word(text.substr(to, first_character(text.substr(to)).length)))
      return false;
  }
  // White space that an earlier token took in is not there for this one, its own included.
  if (token.strip_left) from = std::max(from, begin);
  while (token.strip_left && from > begin) {
    const Utf8Character before = last_character(text.substr(begin, from - begin));
    if (!is_white_space(before.code)) break;
    from -= before.length;
  }
  while (token.strip_right && to < text.size()) {
    const Utf8Character after = first_character(text.substr(to));
    if (!is_white_space(after.code)) break;
    to += after.length;
  }
  return from < to;
}

}  // namespace weir
