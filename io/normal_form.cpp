#include "io/normal_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "io/unicode_age.h"
#include "io/utf8.h"
#include "support/error.h"

namespace weir {
namespace {

void append_normalised(std::string_view text, std::string& out) {
  if (text.empty()) return;
  utf8proc_uint8_t* bytes = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &bytes,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owned(bytes, &std::free);
  WEIR_CHECK(length >= 0, "normal form C: {}", utf8proc_errmsg(length));
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

}  // namespace

std::string_view normal_form_c(std::string_view text, std::string& storage) {
  // Lead bytes from 0xCC on begin U+0300; below it nothing composes or moves.
  if (std::none_of(text.begin(), text.end(),
                   [](char byte) { return static_cast<unsigned char>(byte) >= 0xCC; }))
    return text;
  storage.clear();
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Character next = first_character(text.substr(at));
    if (outside_old_normal_form(next.code)) {  // stands alone: nothing moves or joins across it
      append_normalised(text.substr(begin, at - begin), storage);
      storage += text.substr(at, next.length);
      begin = at + next.length;
    }
    at += next.length;
  }
  append_normalised(text.substr(begin), storage);
  return storage;
}

}  // namespace weir
