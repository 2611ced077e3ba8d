#pragma once
// Unicode's normal form C: base characters joined with their accents where one character exists.
#include <string>
#include <string_view>

namespace weir {

/// `text` (valid UTF-8) in normal form C of Unicode 9, the version of Hugging Face's tokenizers;
/// `text` itself when it has no character from U+0300 on, otherwise a view of `storage`.
std::string_view normal_form_c(std::string_view text, std::string& storage);

}  // namespace weir
