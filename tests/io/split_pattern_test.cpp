// Split patterns and what their matches do, as Hugging Face's tokenizers cuts text.
#include "io/split_pattern.h"

#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "io/text_steps.h"
#include "io_test_util.h"

namespace weir {
namespace {

using Json = nlohmann::json;

std::vector<std::string> pieces(const std::string& pattern, const std::string& text) {
  std::vector<std::string> out;
  SplitPattern(pattern).split(text, [&](std::string_view piece, bool match) {
    out.push_back((match ? "+" : "-") + std::string(piece));
  });
  return out;
}

TEST(SplitPattern, MatchesAndGaps) {
  EXPECT_EQ(pieces("b+", "abbcb"), (std::vector<std::string>{"-a", "+bb", "-c", "+b"}));
  EXPECT_TRUE(pieces("b", "").empty());
  EXPECT_EQ(pieces(kGpt2Pattern, "it's  12,x "),
            (std::vector<std::string>{"+it", "+'s", "+ ", "+ 12", "+,", "+x", "+ "}));
  EXPECT_EQ(pieces(literal_pattern("a.b\\"), "axb a.b\\"),
            (std::vector<std::string>{"-axb ", "+a.b\\"}));
}

TEST(SplitPattern, EmptyMatchesCut) {
  EXPECT_EQ(pieces("x*", "a\xC3\xA9x"),
            (std::vector<std::string>{"+", "-a", "+", "-\xC3\xA9", "+x"}));
  EXPECT_EQ(pieces("(?=b)", "abb"), (std::vector<std::string>{"-a", "+", "-b", "+", "-b"}));
}

TEST(SplitPattern, UnicodeIsThatOfTheReference) {
  // White space is the Unicode property: U+0085 is, U+180E and U+200B are not.
  EXPECT_EQ(pieces("\\s+", "\xC2\x85 \xE1\xA0\x8E"),
            (std::vector<std::string>{"+\xC2\x85 ", "-\xE1\xA0\x8E"}));
  // Categories are those of Unicode 16: U+31350 (15) and U+10D4A (16) are letters, U+1CCF0 (16) is
  // a number; U+11DE5 (17) is none yet.
  for (const char* pattern : {"\\p{L}+", "[\\p{L}\\p{N}]+", "(?:\\p{Lo})+", "\\w+", "[[:alpha:]]+"})
    EXPECT_EQ(pieces(pattern, "!\xF0\xB1\x8D\x90\xF0\x90\xB5\x8A"),
              (std::vector<std::string>{"-!", "+\xF0\xB1\x8D\x90\xF0\x90\xB5\x8A"}))
        << pattern;
  EXPECT_EQ(pieces("\\P{L}|\\p{N}", "\xF0\xB1\x8D\x90"),
            (std::vector<std::string>{"-\xF0\xB1\x8D\x90"}));
  EXPECT_EQ(pieces("[]\\p{N}]", "a]\xF0\x9C\xB3\xB0\xF0\x91\xB7\xA5"),
            (std::vector<std::string>{"-a", "+]", "+\xF0\x9C\xB3\xB0", "-\xF0\x91\xB7\xA5"}));
  EXPECT_EQ(pieces("\\\\s", "\\s s"), (std::vector<std::string>{"+\\s", "- s"}));
}

TEST(SplitPattern, WhatIsNotReadIsNamed) {
  EXPECT_EQ(error_text([] { SplitPattern("a(b"); }),
            "[tokenizer] the split pattern a(b does not compile: end pattern with unmatched "
            "parenthesis.");
  EXPECT_EQ(error_text([] { SplitPattern("a\\X"); }),
            "[tokenizer] the split pattern a\\X has \\X, a rule about text segments that differs "
            "between versions of Unicode; it is not supported. Tokenise elsewhere and give token "
            "ids.");
  EXPECT_EQ(pieces("(?:a|b)*c", std::string(200'000, 'a') + "c").size(), 1U);
}

/// Made by tests/reference/split_patterns.py.
TEST(SplitPattern, SamePiecesAsReference) {
  using Kind = SplitStep::Kind;
  const Json json =
      Json::parse(std::ifstream(std::string(WEIR_TEST_DATA) + "/tokenizer/split_patterns.json"));
  size_t compared = 0;
  for (const Json& one : json["cases"]) {
    const std::string behavior = one["behavior"];
    const bool invert = one["invert"];
    SplitStep step{Kind::keep_all, one["pattern"], invert};
    if (behavior == "Removed") step = {invert ? Kind::keep_matches : Kind::keep_gaps, step.pattern};
    if (behavior == "MergedWithPrevious") step.kind = Kind::join_before;
    if (behavior == "MergedWithNext") step.kind = Kind::join_after;
    if (behavior == "Contiguous") step.kind = Kind::join_equal;
    if (behavior == "Isolated") step.invert = false;
    const Cutter cutter({step});
    for (size_t i = 0; i < json["texts"].size(); ++i) {
      const std::string text = json["texts"][i];
      std::vector<std::string> got;
      cutter(text, true, [&](std::string_view piece) { got.emplace_back(piece); });
      EXPECT_EQ(got, one["pieces"][i].get<std::vector<std::string>>())
          << step.pattern << " " << behavior << (invert ? " inverted" : "") << ": " << text;
      ++compared;
    }
  }
  EXPECT_GT(compared, 1000U);
}

TEST(Normalizer, StepsActInOrder) {
  using Kind = NormalStep::Kind;
  std::string storage;
  const Normalizer none;
  const std::string text = "a b";
  EXPECT_EQ(none(text, storage).data(), text.data());
  const Normalizer steps(
      {{Kind::form_c, "", ""}, {Kind::prepend, "", "_"}, {Kind::replace, " +", "_"}});
  EXPECT_EQ(steps("a  e\xCC\x81", storage), "_a_\xC3\xA9");
  EXPECT_EQ(steps("", storage), "");
}

}  // namespace
}  // namespace weir
