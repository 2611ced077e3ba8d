#include "io/text_kind.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "io/json_depth.h"
#include "io/utf8.h"
#include "support/text.h"

namespace weir {
namespace {

using namespace std::string_view_literals;  // some of the bytes are zero

struct Magic {
  std::string_view bytes;
  size_t at;  ///< offset in the file
  const char* reason;
};

constexpr const char* kParquet =
    "is a Parquet file. Write it as JSON Lines, e.g. with Python: import pandas; "
    "pandas.read_parquet(FILE).to_json(\"text.jsonl\", orient=\"records\", lines=True)";
constexpr const char* kArrow =
    "is an Arrow file. Write it as JSON Lines, e.g. with Python's datasets: "
    "Dataset.from_file(FILE).to_json(\"text.jsonl\")";
constexpr const char* kArchive = "is an archive. Unpack it and give the text files in it";
constexpr const char* kModel = "is a file of weights or arrays. Give a text";
constexpr const char* kUtf16 =
    "is UTF-16, but UTF-8 is needed. Convert it with iconv -f UTF-16 -t UTF-8 FILE > text.txt";
constexpr const char* kUtf32 =
    "is UTF-32, but UTF-8 is needed. Convert it with iconv -f UTF-32 -t UTF-8 FILE > text.txt";

constexpr std::array kMagics = {
    Magic{"PAR1"sv, 0, kParquet},
    Magic{"ARROW1"sv, 0, kArrow},
    Magic{"\xFD\x37zXZ\0"sv, 0,
          "is compressed with xz. Decompress it (xz -d), or use gzip or zstd"},
    Magic{"BZh"sv, 0, "is compressed with bzip2. Decompress it (bzip2 -d), or use gzip or zstd"},
    Magic{"\x04\x22\x4D\x18"sv, 0,
          "is compressed with lz4. Decompress it (lz4 -d), or use gzip or zstd"},
    Magic{"\x1F\x9D"sv, 0, "is compressed with compress. Decompress it (gzip -d)"},
    Magic{"\x1F\x8B"sv, 0, "is compressed twice. Decompress it once (gzip -d)"},
    Magic{"\x28\xB5\x2F\xFD"sv, 0, "is compressed twice. Decompress it once (zstd -d)"},
    Magic{"PK\x03\x04"sv, 0, "is a zip archive. Unpack it (unzip) and give the text files in it"},
    Magic{"PK\x05\x06"sv, 0, "is an empty zip archive. Give a text"},
    Magic{"7z\xBC\xAF\x27\x1C"sv, 0, kArchive},
    Magic{"Rar!\x1A\x07"sv, 0, kArchive},
    Magic{"ustar"sv, 257, "is a tar archive. Unpack it (tar -xf) and give the text files in it"},
    Magic{"%PDF-"sv, 0, "is a PDF file. Take its text out first, e.g. with pdftotext"},
    Magic{"\x93NUMPY"sv, 0,
          "is a NumPy array. Where it holds token ids, give it as --tokens instead of --text"},
    Magic{"GGUF"sv, 0, kModel},
    Magic{"\x89HDF\r\n"sv, 0, kModel},
    Magic{"SQLite format 3\0"sv, 0, "is an SQLite database. Write its text as JSON Lines"},
    Magic{"\xFF\xFE\0\0"sv, 0, kUtf32},  // before UTF-16, whose mark it begins with
    Magic{"\0\0\xFE\xFF"sv, 0, kUtf32},
    Magic{"\xFF\xFE"sv, 0, kUtf16},
    Magic{"\xFE\xFF"sv, 0, kUtf16},
};

// A byte order mark is followed by whole units, and every fourth byte of UTF-32 is zero. Text
// outside the first 256 characters has no zero bytes in UTF-16, so there they count only one way.
std::string without_mark(std::string_view head) {
  std::array<size_t, 4> zeros{};
  for (size_t i = 0; i < head.size(); ++i) zeros[i % 4] += head[i] == '\0';
  const size_t units = head.size() / 4, all = zeros[0] + zeros[1] + zeros[2] + zeros[3];
  if (units < 2) return "";
  const bool low_first = zeros[3] >= units && zeros[2] >= units && zeros[0] == 0;
  const bool high_first = zeros[0] >= units && zeros[1] >= units && zeros[3] == 0;
  if (low_first || high_first)
    return fmt::format(
        "looks like UTF-32 without a byte order mark, but UTF-8 is needed. Convert it with iconv "
        "-f UTF-32{} -t UTF-8 FILE > text.txt",
        low_first ? "LE" : "BE");
  const size_t odd = zeros[1] + zeros[3], even = zeros[0] + zeros[2];
  if (all * 8 >= head.size() * 3 && (odd == 0 || even == 0))
    return fmt::format(
        "looks like UTF-16 without a byte order mark, but UTF-8 is needed. Convert it with iconv "
        "-f UTF-16{} -t UTF-8 FILE > text.txt",
        even == 0 ? "LE" : "BE");
  return "";
}

bool is_control(unsigned char byte) {
  return byte == 127 || (byte < 32 && "\t\n\v\f\r\b\x1B"sv.find(static_cast<char>(byte)) ==
                                          std::string_view::npos);
}

// From the share of bytes that no text has.
std::string by_share(std::string_view head) {
  constexpr size_t least = 512;  // shorter texts may well be odd
  if (head.size() < least) return "";
  const auto zeros = static_cast<size_t>(std::count(head.begin(), head.end(), '\0'));
  const auto controls = static_cast<size_t>(std::count_if(
      head.begin(), head.end(), [](char c) { return is_control(static_cast<unsigned char>(c)); }));
  const size_t broken = ill_formed_bytes(head);
  if (zeros * 64 >= head.size() ||
      (controls > broken && (controls + broken) * 10 >= head.size() * 3))
    return fmt::format(
        "is no text: {} of its first {} bytes are zero or control characters. Give "
        "a text in UTF-8",
        controls, head.size());
  if ((controls + broken) * 10 >= head.size() * 3)
    return fmt::format(
        "is not UTF-8: {} of its first {} bytes are ill-formed. Convert it with iconv -f ENCODING "
        "-t UTF-8 FILE > text.txt",
        broken, head.size());
  return "";
}

}  // namespace

std::string why_no_text(std::string_view head) {
  for (const Magic& magic : kMagics)
    if (head.size() >= magic.at && head.substr(magic.at).starts_with(magic.bytes)) {
      // "BZh" alone may begin a word; the format goes on with a digit and pi.
      if (magic.bytes == "BZh" && !(head.size() > 9 && head.substr(4).starts_with("1AY&SY")))
        continue;
      return magic.reason;
    }
  if (std::string reason = without_mark(head); !reason.empty()) return reason;
  return by_share(head);
}

bool looks_like_json_lines(std::string_view head, const std::string& key) {
  const size_t first = head.find_first_not_of(" \t\r\n");
  if (first == head.npos || head[first] != '{') return false;
  const size_t end = head.find('\n', first);
  const std::string_view line = head.substr(first, end == head.npos ? end : end - first);
  if (!json_is_shallow(line)) return false;
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
  if (json.is_object()) return json.contains(key);
  return end == head.npos && head.size() >= kTextHead &&
         line.find(nlohmann::json(key).dump()) != line.npos;
}

}  // namespace weir
