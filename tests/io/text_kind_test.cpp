#include "io/text_kind.h"

#include <gmock/gmock.h>

#include <random>

namespace weir {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using namespace std::string_literals;

// Each byte of `text` followed, or preceded, by so many zero bytes.
std::string wide(std::string_view text, size_t before, size_t after) {
  std::string bytes;
  for (char c : text) bytes += std::string(before, '\0') + c + std::string(after, '\0');
  return bytes;
}

TEST(TextKind, FormatsAreToldByTheirFirstBytes) {
  EXPECT_THAT(why_no_text("PAR1\x15\x04"), StartsWith("is a Parquet file. Write it as JSON Lines"));
  EXPECT_THAT(why_no_text("ARROW1\0\0"s), StartsWith("is an Arrow file. "));
  EXPECT_EQ(why_no_text("\xFD\x37zXZ\0\0\4"s),
            "is compressed with xz. Decompress it (xz -d), or use gzip or zstd");
  EXPECT_THAT(why_no_text("BZh91AY&SY\x01"), StartsWith("is compressed with bzip2. "));
  EXPECT_THAT(why_no_text("PK\3\4\x14"), StartsWith("is a zip archive. "));
  EXPECT_THAT(why_no_text("\x1F\x8B\x08"), StartsWith("is compressed twice. "));
  EXPECT_THAT(why_no_text("%PDF-1.7"), StartsWith("is a PDF file. "));
  EXPECT_THAT(why_no_text("\x93NUMPY\x01"), HasSubstr("--tokens"));
  EXPECT_THAT(why_no_text(std::string(257, 'a') + "ustar\0"s), StartsWith("is a tar archive. "));
}

TEST(TextKind, Utf16And32AreRefusedWithAndWithoutMark) {
  const std::string text = "Call me Ishmael.";
  const std::string le = wide(text, 0, 1), be = wide(text, 1, 0);
  EXPECT_THAT(why_no_text("\xFF\xFE" + le), StartsWith("is UTF-16, but UTF-8 is needed. Convert it "
                                                       "with iconv -f UTF-16 -t UTF-8"));
  EXPECT_THAT(why_no_text("\xFE\xFF" + be), StartsWith("is UTF-16, "));
  EXPECT_THAT(why_no_text("\xFF\xFE\0\0"s + wide(text, 0, 3)), StartsWith("is UTF-32, "));
  EXPECT_THAT(why_no_text(le),
              HasSubstr("looks like UTF-16 without a byte order mark, but UTF-8 is "
                        "needed. Convert it with iconv -f UTF-16LE "));
  EXPECT_THAT(why_no_text(be), HasSubstr("iconv -f UTF-16BE "));
  EXPECT_THAT(why_no_text(wide(text, 0, 3)), HasSubstr("iconv -f UTF-32LE "));
  EXPECT_THAT(why_no_text(wide(text, 3, 0)), HasSubstr("iconv -f UTF-32BE "));
}

TEST(TextKind, OtherBytesAreJudgedByTheirShare) {
  std::mt19937 random(3);
  std::string noise, cyrillic;
  for (int i = 0; i < 4000; ++i) noise += static_cast<char>(random() & 0xFF);
  EXPECT_THAT(why_no_text(noise), StartsWith("is no"));
  for (int i = 0; i < 1000; ++i) cyrillic += "\xF0\xD2\xC9\xD7\xC5\xD4 ";  // KOI8-R
  EXPECT_EQ(why_no_text(cyrillic),
            "is not UTF-8: 6000 of its first 7000 bytes are ill-formed. Convert it with iconv -f "
            "ENCODING -t UTF-8 FILE > text.txt");
  std::string zeros(1000, 'a');
  for (size_t i = 0; i < zeros.size(); i += 64) zeros[i] = '\0';
  EXPECT_THAT(why_no_text(zeros), StartsWith("is no text: 16 of its first 1000 bytes are zero or"));
}

TEST(TextKind, TextIsText) {
  std::string french, chinese;
  for (int i = 0; i < 500; ++i)
    french +=
        "une ann\xE9"
        "e d'\xE9t\xE9, ";  // Latin-1: some bytes only
  for (int i = 0; i < 500; ++i) chinese += "\xE4\xB8\xAD\xE6\x96\x87";
  EXPECT_EQ(why_no_text(french), "");
  EXPECT_EQ(why_no_text(chinese), "");
  EXPECT_EQ(why_no_text(chinese.substr(0, 1000)), "") << "cut within a character";
  EXPECT_EQ(why_no_text("\xEF\xBB\xBFtext"), "");
  EXPECT_EQ(why_no_text(""), "");
  EXPECT_EQ(why_no_text("a\0b"s), "");
  EXPECT_EQ(why_no_text("BZh is how it begins"), "");
  EXPECT_EQ(why_no_text("\x1B[31mred\x1B[0m\r\n\t\f"), "");
}

TEST(TextKind, JsonLinesAreToldByTheirFirstLine) {
  EXPECT_TRUE(looks_like_json_lines("\n {\"id\": 1, \"text\": \"x\"}\n...", "text"));
  EXPECT_FALSE(looks_like_json_lines("{\"body\": \"x\"}\n", "text"));
  EXPECT_TRUE(looks_like_json_lines("{\"body\": \"x\"}\n", "body"));
  EXPECT_FALSE(looks_like_json_lines("{text} is a word\n", "text"));
  EXPECT_FALSE(looks_like_json_lines("[\"text\"]\n", "text"));
  EXPECT_FALSE(looks_like_json_lines("", "text"));
  const std::string cut = "{\"text\":\"" + std::string(kTextHead, 'x');
  EXPECT_TRUE(looks_like_json_lines(std::string_view(cut).substr(0, kTextHead), "text"));
}

}  // namespace
}  // namespace weir
