#include "support/text.h"

#include <gtest/gtest.h>

#include "support/error.h"

namespace weir {
namespace {

TEST(Text, NearestFindsMisspellings) {
  std::vector<std::string> names = {"d_model", "d_ff", "layers", "heads"};
  EXPECT_EQ(did_you_mean("d_modell", names), " Did you mean d_model?");
  EXPECT_EQ(did_you_mean("zebra", names), "");
}

TEST(Text, GlobMatchesStarsAndBraces) {
  EXPECT_TRUE(glob_match("blocks.*.attn.hook_v", "blocks.11.attn.hook_v"));
  EXPECT_FALSE(glob_match("blocks.*.attn.hook_v", "blocks.11.attn.hook_vv"));
  EXPECT_TRUE(glob_match("a.{x,y}", "a.y"));
  EXPECT_FALSE(glob_match("a.{x,y}", "a.z"));
}

TEST(Text, ShortestReadsBack) {
  EXPECT_EQ(shortest(0.1), "0.1");
  EXPECT_EQ(shortest(1e-5), "1e-05");
  EXPECT_EQ(shortest(-1.0 / 0.0), "-inf");
}

TEST(Text, MessagesHoldNothingThatATerminalObeys) {
  EXPECT_EQ(printable_message("plain,\n  - \u00e9\u20ac\U0001f600"),
            "plain,\n  - \u00e9\u20ac\U0001f600");
  EXPECT_EQ(printable(std::string("a\0\x1b[31m\t\r\x7f", 10)), "a\\x00\\x1b[31m\\x09\\x0d\\x7f");
  EXPECT_EQ(printable("\xc2\x9b|\xc2\xa0|"), "\\xc2\\x9b|\xc2\xa0|");
  // Bytes that are no UTF-8, of which a terminal may make what it likes.
  EXPECT_EQ(printable("\x9b|\xff|\xe2\x82|\xc3"), "\\x9b|\\xff|\\xe2\\x82|\\xc3");
}

TEST(Text, NamesStayOnOneLine) {
  EXPECT_EQ(printable("a\nb"), "a\\x0ab");
  keep_on_one_line({"--json=out/x\ny.json", "two\nlines;plain", "\n"});
  EXPECT_EQ(printable_message("[x] 2 problems:\n  - /tmp/x\ny.json is none\n  - two\nlines"),
            "[x] 2 problems:\n  - /tmp/x\\x0ay.json is none\n  - two\\x0alines");
}

TEST(Text, SizesAreReadInPowersOf1024) {
  EXPECT_EQ(parse_bytes("1.5 KiB"), 1536);
  EXPECT_EQ(parse_bytes("8g"), int64_t{8} << 30);
  EXPECT_EQ(parse_bytes(" 500M "), int64_t{500} << 20);
  EXPECT_EQ(parse_bytes("12"), 12);
  for (const char* wrong : {"", "x", "8 apples", "-1", "0", "nan", "1e30"})
    EXPECT_EQ(parse_bytes(wrong), std::nullopt) << wrong;
}

TEST(Error, ProblemsAreListedTogether) {
  Problems problems("config");
  problems.add("first");
  problems.add("second");
  try {
    problems.raise();
    FAIL() << "expected a UserError";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "[config] 2 problems:\n  - first\n  - second");
  }
}

}  // namespace
}  // namespace weir
