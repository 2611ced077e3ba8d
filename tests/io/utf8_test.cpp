#include "io/utf8.h"

#include <gtest/gtest.h>

#include <random>

namespace weir {
namespace {

std::string lossy(std::string_view text) {
  std::string storage;
  return std::string(valid_utf8(text, storage));
}

TEST(Utf8, ValidTextIsNotCopied) {
  std::string text = "ascii \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x99\x82 \xED\x9F\xBF \xF4\x8F\xBF\xBF";
  std::string storage;
  EXPECT_EQ(valid_utf8(text, storage).data(), text.data());
  EXPECT_EQ(valid_utf8("", storage), "");
}

TEST(Utf8, IllFormedPartsAreReplacedOneByOne) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(lossy("\xFF"), r);
  EXPECT_EQ(lossy("a\x80"
                  "b"),
            "a" + r + "b");
  EXPECT_EQ(lossy("\xC0\xAF"), r + r);                  // overlong
  EXPECT_EQ(lossy("\xE0\x80\x80"), r + r + r);          // overlong
  EXPECT_EQ(lossy("\xED\xA0\x80"), r + r + r);          // surrogate
  EXPECT_EQ(lossy("\xF4\x90\x80\x80"), r + r + r + r);  // above U+10FFFF
  EXPECT_EQ(lossy("\xE2\x82"), r);                      // cut off at the end: one part
  EXPECT_EQ(lossy("\xF0\x9F\x99x"), r + "x");           // cut off inside: one part
  EXPECT_EQ(lossy("\xE2\x82\xE2\x82\xAC"), r + "\xE2\x82\xAC");
  // The example of Unicode 15, table 3-11.
  EXPECT_EQ(lossy("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "\x41");
}

TEST(Utf8, ByteLevelAlphabet) {
  EXPECT_EQ(to_byte_level(" a\n"),
            "\xC4\xA0"
            "a\xC4\x8A");
  EXPECT_EQ(to_byte_level("\xAD\x7F"), "\xC5\x83\xC4\xA1");  // U+0143 is the last, U+0121 is 0x7F
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  std::string back;
  EXPECT_TRUE(from_byte_level(to_byte_level(all), back));
  EXPECT_EQ(back, all);
  EXPECT_FALSE(from_byte_level(" ", back));
  EXPECT_FALSE(from_byte_level("\xC5\x84", back));  // U+0144, one beyond
  EXPECT_FALSE(from_byte_level("\xE2\x82\xAC", back));
  EXPECT_FALSE(from_byte_level("\xC4", back));
}

}  // namespace
}  // namespace weir
