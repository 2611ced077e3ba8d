#pragma once
// What the first bytes of a file say about it: text that can be read, or something else.
#include <string>
#include <string_view>

namespace weir {

/// So many bytes, decompressed, are enough to judge by.
constexpr size_t kTextHead = 1 << 16;

/// Why bytes are not text in UTF-8, and what to do about it, to stand after the file's name: "is
/// a Parquet file. ...". Judged by magic numbers; byte order marks and the zero bytes of UTF-16 and
/// UTF-32; and, from 512 bytes on, by the share of zero bytes (1/64), and of control characters and
/// ill-formed UTF-8 together (3/10). Empty for text.
std::string why_no_text(std::string_view head);

/// Whether the first line that is not blank is, or if the head is cut off in it begins as, a JSON
/// object with the member `key`.
bool looks_like_json_lines(std::string_view head, const std::string& key);

}  // namespace weir
