#include "io/utf8.h"

#include <array>
#include <cstdint>
#include <cstring>

namespace weir {
namespace {

struct Scan {
  size_t length;  ///< bytes of the character, or of the maximal ill-formed part
  bool valid;
};

/// The character at the start of non-empty `text` (Unicode 15, table 3-7).
Scan scan(std::string_view text) {
  auto byte = [&](size_t at) { return static_cast<unsigned char>(text[at]); };
  unsigned char lead = byte(0);
  if (lead < 0x80) return {1, true};
  size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  // The second byte's range excludes overlong forms, surrogates and values over U+10FFFF.
  unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size() || byte(i) < low || byte(i) > high) return {i, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true};
}

/// Bytes at the start of `text` that are valid UTF-8.
size_t valid_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t eight = 0;
    if (text.size() - at >= 8) {
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & 0x8080808080808080U) == 0) {
        at += 8;
        continue;
      }
    }
    Scan next = scan(text.substr(at));
    if (!next.valid) break;
    at += next.length;
  }
  return at;
}

bool is_printable_latin1(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<uint16_t, 256> code{};         ///< byte to code point
  std::array<int16_t, 256 + 68> byte_of{};  ///< code point to byte, -1 outside the alphabet
  Alphabet() {
    byte_of.fill(-1);
    uint16_t next = 256;
    for (unsigned byte = 0; byte < 256; ++byte) {
      code[byte] = is_printable_latin1(byte) ? static_cast<uint16_t>(byte) : next++;
      byte_of[code[byte]] = static_cast<int16_t>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet table;
  return table;
}

}  // namespace

Utf8Character first_character(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
  char32_t code = length == 1 ? lead : lead & (0x7FU >> length);
  for (size_t i = 1; i < length; ++i)
    code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3FU);
  return {code, length};
}

Utf8Character last_character(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return first_character(text.substr(begin));
}

bool is_white_space(char32_t character) {
  return (character >= 0x9 && character <= 0xD) || character == 0x20 || character == 0x85 ||
         character == 0xA0 || character == 0x1680 || (character >= 0x2000 && character <= 0x200A) ||
         character == 0x2028 || character == 0x2029 || character == 0x202F || character == 0x205F ||
         character == 0x3000;
}

std::string_view valid_utf8(std::string_view text, std::string& storage) {
  size_t good = valid_prefix(text);
  if (good == text.size()) return text;
  storage.clear();
  while (true) {
    storage += text.substr(0, good);
    text.remove_prefix(good);
    if (text.empty()) return storage;
    storage += "\xEF\xBF\xBD";
    text.remove_prefix(scan(text).length);
    good = valid_prefix(text);
  }
}

size_t ill_formed_bytes(std::string_view text) {
  constexpr size_t longest = 4;  // of a character
  size_t broken = 0;
  while (true) {
    text.remove_prefix(valid_prefix(text));
    if (text.empty()) return broken;
    const size_t length = scan(text).length;
    const auto lead = static_cast<unsigned char>(text[0]);
    const bool cut_off = length == text.size() && length < longest && lead >= 0xC2 && lead <= 0xF4;
    if (!cut_off) broken += length;
    text.remove_prefix(length);
  }
}

std::string to_byte_level(std::string_view bytes) {
  std::string out;
  for (char byte : bytes) {
    uint16_t code = alphabet().code[static_cast<unsigned char>(byte)];
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else {  // the alphabet ends below U+0800
      out += static_cast<char>(0xC0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 0x3F));
    }
  }
  return out;
}

bool from_byte_level(std::string_view text, std::string& bytes) {
  bytes.clear();
  while (!text.empty()) {
    Scan next = scan(text);
    if (!next.valid || next.length > 2) return false;
    auto code = static_cast<unsigned>(static_cast<unsigned char>(text[0]));
    if (next.length == 2) code = (code & 0x1F) << 6 | (static_cast<unsigned char>(text[1]) & 0x3F);
    if (code >= alphabet().byte_of.size() || alphabet().byte_of[code] < 0) return false;
    bytes += static_cast<char>(alphabet().byte_of[code]);
    text.remove_prefix(next.length);
  }
  return true;
}

}  // namespace weir
