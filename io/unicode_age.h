#pragma once
// What the Unicode versions of our libraries and of Hugging Face's tokenizers (0.23) know apart:
// its patterns are those of Unicode 16, `Digits` is of 17, its normal form C of 9; Debian's
// Oniguruma 6.9.8 is of 14. Source: both versions of Oniguruma asked for every character
// (tests/reference/unicode_properties.py), UnicodeData.txt.
#include <optional>
#include <string>
#include <string_view>

namespace weir {

/// A class of a regular expression that means a property of Unicode 16 ("Lu", "L", "Han",
/// "Alphabetic"; case, spaces, "_" and "-" do not matter), or all but it; nothing when the property
/// has not changed since Unicode 14.
std::optional<std::string> unicode_16_class(std::string_view property, bool negated);

/// Numbers that came with Unicode 17, likewise.
extern const char* const kNewestNumbers;

/// Whether normal form C of Unicode 9 takes the character as it is, though a later version orders
/// or composes it.
bool outside_old_normal_form(char32_t character);

}  // namespace weir
