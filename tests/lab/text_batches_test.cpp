#include "lab/text_batches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "lab/data.h"
#include "lab/lab_test_util.h"

namespace weir {
namespace {

using test::error_of;
using ::testing::HasSubstr;

TEST(PermutedIndex, IsAPermutationOfEveryCount) {
  for (uint64_t count : {1, 2, 3, 5, 16, 17, 100, 1000}) {
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < count; ++i) seen.insert(permuted_index(i, count, 7, 3));
    EXPECT_EQ(seen.size(), count);
    EXPECT_EQ(*seen.rbegin(), count - 1);
  }
}

TEST(PermutedIndex, DependsOnSeedAndEpochAndMixes) {
  auto order = [](uint64_t seed, uint64_t epoch) {
    std::vector<uint64_t> result;
    for (uint64_t i = 0; i < 100; ++i) result.push_back(permuted_index(i, 100, seed, epoch));
    return result;
  };
  EXPECT_NE(order(1, 0), order(2, 0));
  EXPECT_NE(order(1, 0), order(1, 1));
  auto first = order(1, 0);
  int neighbours = 0;
  for (size_t i = 1; i < first.size(); ++i) neighbours += first[i] == first[i - 1] + 1;
  EXPECT_LT(neighbours, 10);
}

class TextBatches : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 40; ++i) text_ += static_cast<char>('A' + i);
    std::ofstream(folder_ / "a.txt") << text_;
  }
  std::unique_ptr<BatchSource> source() const {
    return make_text_batches({{folder_ / "a.txt"}, "bytes", "", 3});
  }
  test::TemporaryFolder folder_;
  std::string text_;
};

TEST_F(TextBatches, EveryTokenIsATargetOnceAnEpoch) {
  auto batches = source();  // 40 letters and a separator: 8 windows of 5
  const int64_t T = 5;
  std::vector<int32_t> tokens(8 * T), targets(8 * T);
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    batches->fill(8 * epoch, 8, T, tokens.data(), targets.data());
    std::multiset<int32_t> seen(targets.begin(), targets.end());
    EXPECT_EQ(seen.size(), 40u);
    EXPECT_EQ(seen.count('A'), 0u);
    EXPECT_EQ(seen.count('B'), 1u);
    EXPECT_EQ(seen.count(0), 1u);
    for (size_t i = 0; i < tokens.size(); ++i)
      EXPECT_EQ(targets[i], tokens[i] == 'A' + 39 ? 0 : tokens[i] + 1);
  }
}

TEST_F(TextBatches, ASequenceIsAFunctionOfItsIndex) {
  auto batches = source();
  std::vector<int32_t> all(20 * 4), part(4), targets(20 * 4);
  batches->fill(0, 20, 4, all.data(), targets.data());
  batches->fill(13, 1, 4, part.data(), targets.data());
  EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + 13 * 4));
}

TEST_F(TextBatches, SaysWhatIsMissing) {
  auto batches = source();
  std::vector<int32_t> tokens(50), targets(50);
  EXPECT_EQ(error_of([&] { batches->fill(0, 1, 50, tokens.data(), targets.data()); }),
            "[data] the text has 41 tokens, but a sequence of length 50 needs 51. Give more text, "
            "or a smaller length.");
  RunConfig config;
  config.model.vocabulary = 100;
  EXPECT_THAT(error_of([&] { resolve_vocabulary(config, *batches); }),
              HasSubstr("model.vocabulary is 100, but the data has id 104 ('h'), so at least 105"));
  config.model.vocabulary = 105;  // enough for these data, though not for every byte
  EXPECT_EQ(resolve_vocabulary(config, *batches).model.vocabulary, 105);
  config.model.vocabulary = 0;
  EXPECT_EQ(resolve_vocabulary(config, *batches).model.vocabulary, 256);
}

TEST_F(TextBatches, TokensHavePrintableTexts) {
  auto batches = source();
  EXPECT_EQ(batches->token_text('A'), "A");
  EXPECT_EQ(batches->token_text('\n'), "\\n");
  EXPECT_EQ(batches->token_text(1), "\\x01");
  EXPECT_EQ(batches->token_text(200), "#200");
}

}  // namespace
}  // namespace weir
