#pragma once
// UTF-8 and the byte-level alphabet of GPT-2, in which every byte is one printable character.
#include <cstddef>
#include <string>
#include <string_view>

namespace weir {

struct Utf8Character {
  char32_t code = 0;
  size_t length = 0;  ///< in bytes
};
/// The first and the last character of non-empty valid UTF-8.
Utf8Character first_character(std::string_view text);
Utf8Character last_character(std::string_view text);

/// The Unicode property White_Space.
bool is_white_space(char32_t character);

/// `text` itself when it is valid UTF-8. Otherwise a copy kept in `storage`, in which every maximal
/// ill-formed part is replaced by U+FFFD, as Python's errors="replace" and Rust's from_utf8_lossy
/// do (Unicode 15, section 3.9, table 3-8).
std::string_view valid_utf8(std::string_view text, std::string& storage);

/// How many bytes are in ill-formed parts; a character that the end cuts off is none.
size_t ill_formed_bytes(std::string_view text);

/// Bytes to the byte-level alphabet: printable Latin-1 stands for itself, the 68 others are
/// U+0100 and up in byte order, e.g. " a\n" -> "\u0120a\u010a". Source: GPT-2's encoder.py.
std::string to_byte_level(std::string_view bytes);

/// The inverse; false when `text` has a character outside the alphabet (`bytes` is then
/// unspecified).
bool from_byte_level(std::string_view text, std::string& bytes);

}  // namespace weir
