#include <gtest/gtest.h>

#include <algorithm>

#include "lab/train/batches.h"
#include "support/error.h"

namespace weir {
namespace {

TEST(Backcopy, TriggersCopyTheTokenBefore) {
  auto source = make_backcopy({});
  const int64_t rows = 8, T = 100;
  std::vector<int32_t> tokens(rows * T), targets(rows * T);
  source->fill(5, rows, T, tokens.data(), targets.data());
  int64_t copies = 0;
  for (int64_t r = 0; r < rows; ++r) {
    EXPECT_EQ(source->token_text(tokens[r * T]), "<s>");
    for (int64_t t = 1; t < T; ++t) {
      EXPECT_EQ(targets[r * T + t - 1], tokens[r * T + t]);
      // The synthetic source's most frequent symbols are a, b and c.
      if (tokens[r * T + t] < 3) {
        ++copies;
        EXPECT_EQ(targets[r * T + t], tokens[r * T + t - 1]);
      }
    }
  }
  EXPECT_GT(copies, rows * T / 10);
}

// Without <s> a sequence is the same from its second token on.
TEST(Backcopy, WithoutABeginToken) {
  auto with = make_backcopy({}), without = make_backcopy({.begin = false});
  const int64_t rows = 3, T = 20;
  std::vector<int32_t> tokens(rows * T), targets(rows * T), bare(rows * T), bare_targets(rows * T);
  with->fill(5, rows, T, tokens.data(), targets.data());
  without->fill(5, rows, T, bare.data(), bare_targets.data());
  for (int64_t r = 0; r < rows; ++r) {
    EXPECT_TRUE(
        std::equal(targets.begin() + r * T, targets.begin() + (r + 1) * T, bare.begin() + r * T));
    EXPECT_TRUE(std::equal(bare.begin() + r * T + 1, bare.begin() + (r + 1) * T,
                           bare_targets.begin() + r * T));
    EXPECT_GE(bare[r * T], 3) << "a trigger would have nothing to copy";
  }
  EXPECT_EQ(with->vocabulary(), without->vocabulary());
  EXPECT_EQ(without->describe().find("Bigram-Backcopy without a begin token, 3 triggers"), 0u);
  const BackcopyOracle oracle = backcopy_oracle({.begin = false}, 50, 100);
  EXPECT_NEAR(oracle.bigram_loss, backcopy_oracle({}, 50, 100).bigram_loss, 0.05);
}

TEST(Backcopy, BatchesAreAFunctionOfTheirIndex) {
  auto source = make_backcopy({});
  std::vector<int32_t> a(40), b(20), y(40);
  source->fill(7, 2, 20, a.data(), y.data());
  source->fill(8, 1, 20, b.data(), y.data());
  EXPECT_TRUE(std::equal(b.begin(), b.end(), a.begin() + 20));
}

TEST(Backcopy, OracleOfATextIsItsConditionalEntropy) {
  // "abac" repeated: a is followed by b and c in turn, b and c always by a.
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "abac";
  BackcopyOptions options;
  options.triggers = 0;
  options.text = text;
  BackcopyOracle oracle = backcopy_oracle(options, 200, 100);
  EXPECT_NEAR(oracle.bigram_loss, 0.3466, 0.01);
  EXPECT_EQ(oracle.backcopy_share, 0);
}

TEST(Backcopy, ListsBadOptions) {
  BackcopyOptions options;
  options.triggers = -1;
  options.symbols = 1;
  options.concentration = 0;
  try {
    make_backcopy(options);
    FAIL() << "expected a UserError";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "[backcopy] 3 problems:\n"
                 "  - triggers is -1, but at least 0 is needed.\n"
                 "  - symbols is 1, but at least 2 are needed.\n"
                 "  - concentration is 0, but a number > 0 is needed.");
  }
}

}  // namespace
}  // namespace weir
