#include "io/normal_form.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

std::string composed(std::string_view text) {
  std::string storage;
  return std::string(normal_form_c(text, storage));
}

TEST(NormalForm, TextWithoutMarksIsNotCopied) {
  std::string text = "plain, gr\xC3\xB6\xC3\x9F\x65r \xCB\xBF";
  std::string storage;
  EXPECT_EQ(normal_form_c(text, storage).data(), text.data());
  EXPECT_EQ(normal_form_c("", storage), "");
}

TEST(NormalForm, MarksAreOrderedAndJoined) {
  EXPECT_EQ(composed("e\xCC\x81"), "\xC3\xA9");
  EXPECT_EQ(composed("s\xCC\x87\xCC\xA3"), "\xE1\xB9\xA9");                     // U+1E69
  EXPECT_EQ(composed("\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB"), "\xED\x95\x9C");  // Hangul
  EXPECT_EQ(composed("\xE2\x84\xA6 \xEF\xA4\x80"), "\xCE\xA9 \xE8\xB1\x88");    // singletons
  EXPECT_EQ(composed("\xE0\xA5\x98"), "\xE0\xA4\x95\xE0\xA4\xBC");              // excluded
  EXPECT_EQ(composed(std::string("a\0e\xCC\x81", 5)), std::string("a\0\xC3\xA9", 4));
}

// U+1E08F came with Unicode 15 and U+11938 with 13; to version 9 they are strangers.
TEST(NormalForm, CharactersOfLaterVersionsStandAlone) {
  EXPECT_EQ(composed("q\xCD\x85\xF0\x9E\x82\x8F"), "q\xCD\x85\xF0\x9E\x82\x8F");
  EXPECT_EQ(composed("\xF0\x91\xA4\xB5\xF0\x91\xA4\xB0"), "\xF0\x91\xA4\xB5\xF0\x91\xA4\xB0");
  EXPECT_EQ(composed("e\xF0\x9E\x82\x8F\xCC\x81"), "e\xF0\x9E\x82\x8F\xCC\x81");
}

}  // namespace
}  // namespace weir
