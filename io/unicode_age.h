#pragma once
// What the Unicode versions of our libraries and of Hugging Face's tokenizers (0.23) know apart:
// its patterns are those of Unicode 16, `Digits` is of 17, its normal form C of 9; PCRE2 10.42 is
// of
// 14. Source: UnicodeData.txt of these versions.
#include <string>
#include <string_view>

namespace weir {

/// Code points of a general category ("Lu", "L", "M", "N" ...) that came with Unicode 15 to 16, as
/// ranges inside a class of a regular expression ("\x{1c89}\x{10d50}-\x{10d65}"); "" for none.
std::string newer_in_category(std::string_view category);

/// Numbers that came with Unicode 17, likewise.
extern const char* const kNewestNumbers;

/// Whether normal form C of Unicode 9 takes the character as it is, though a later version orders
/// or composes it.
bool outside_old_normal_form(char32_t character);

}  // namespace weir
