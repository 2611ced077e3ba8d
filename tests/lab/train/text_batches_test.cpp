#include "lab/train/text_batches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "lab/lab_test_util.h"
#include "lab/train/data.h"

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
    return make_text_batches({.files = {folder_ / "a.txt"}, .seed = 3}).training;
  }
  TextBatchPair pair(const std::vector<std::string>& files,
                     const std::vector<std::string>& validation) const {
    return make_text_batches({.files = files, .seed = 3, .validation = validation});
  }
  static std::multiset<int32_t> all_targets(const BatchSource& source, int64_t T) {
    const int64_t rows = source.sequences(T);
    std::vector<int32_t> tokens(static_cast<size_t>(rows * T)), targets(tokens.size());
    source.fill(0, rows, T, tokens.data(), targets.data());
    return {targets.begin(), targets.end()};
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

TEST_F(TextBatches, ABeginTokenBeginsEverySequence) {
  const auto batches =
      make_text_batches({.files = {folder_ / "a.txt"}, .seed = 3, .wishes = {.begin = "255"}})
          .training;
  const int64_t T = 5;
  ASSERT_EQ(batches->sequences(T), 8);
  EXPECT_EQ(batches->largest_id(), 255);
  std::vector<int32_t> tokens(8 * T), targets(8 * T);
  batches->fill(0, 8, T, tokens.data(), targets.data());
  for (size_t i = 0; i < tokens.size(); ++i)
    EXPECT_EQ(tokens[i], i % T == 0 ? 255 : targets[i - 1]);
  const std::multiset<int32_t> seen(targets.begin(), targets.end());
  EXPECT_EQ(seen.count('A'), 1u) << "the first id is a target, too";
  EXPECT_EQ(seen.size(), 40u);
  EXPECT_THAT(batches->describe(), HasSubstr("separator 0 (byte 0), begin 255"));
}

// One that the tokenizer's files name, though transformers would not put it before a text.
TEST_F(TextBatches, TheTokenizersBeginTokenBeginsTrainingAndValidation) {
  EXPECT_THAT(
      error_of([&] {
        make_text_batches({.files = {folder_ / "a.txt"},
                           .wishes = {.begin = "tokenizer", .begin_name = "data.begin_token"}});
      }),
      HasSubstr("data.begin_token is tokenizer, but the tokenizer (bytes, 256 entries) "
                "names no begin token"));
  std::ofstream(folder_ / "tokenizer.json")
      << R"({"model": {"type": "BPE", "vocab": {"A": 0, "B": 1, "C": 2, "[BOS]": 3}, "merges": []},
            "added_tokens": [{"id": 3, "content": "[BOS]", "special": true}],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
            "decoder": {"type": "ByteLevel"}})";
  std::ofstream(folder_ / "tokenizer_config.json") << R"({"bos_token": "[BOS]"})";
  std::ofstream(folder_ / "abc.txt") << "ABCABCABCABCABCABCABCABC";
  const TextBatchPair data =
      make_text_batches({.files = {folder_ / "abc.txt"},
                         .tokenizer = folder_ / "tokenizer.json",
                         .wishes = {.separator = "none", .begin = "tokenizer"},
                         .validation = {"0.25"}});
  for (const BatchSource* source : {data.training.get(), data.validation.get()}) {
    const int64_t T = 3, rows = source->sequences(T);
    ASSERT_GT(rows, 0);
    std::vector<int32_t> tokens(static_cast<size_t>(rows * T)), targets(tokens.size());
    source->fill(0, rows, T, tokens.data(), targets.data());
    for (size_t i = 0; i < tokens.size(); ++i)
      EXPECT_EQ(tokens[i], i % 3 == 0 ? 3 : targets[i - 1]);
    EXPECT_EQ(source->facts().around->begin.id, 3);
  }
}

TEST_F(TextBatches, AFractionHoldsOutTheEnd) {
  const TextBatchPair data = pair({folder_ / "a.txt"}, {"0.25"});  // 10 of 41 ids
  const auto trained = all_targets(*data.training, 5), held = all_targets(*data.validation, 3);
  EXPECT_EQ(data.training->facts().tokens, 31);
  EXPECT_EQ(data.validation->facts().tokens, 10);
  EXPECT_EQ(*trained.begin(), 'A' + 1);
  EXPECT_EQ(*trained.rbegin(), 'A' + 30);
  EXPECT_EQ(held.size(), 9u);
  EXPECT_EQ(held.count(0), 1u) << "the separator is at the end";
  EXPECT_EQ(*std::next(held.begin()), 'A' + 32);
}

TEST_F(TextBatches, AFolderDoesNotIncludeItsValidationFile) {
  std::ofstream(folder_ / "v.txt") << "0123456789";
  const TextBatchPair data = pair({folder_.path()}, {folder_ / "v.txt"});
  EXPECT_EQ(data.training->facts().tokens, 41);
  EXPECT_EQ(all_targets(*data.training, 1).count('5'), 0u);
  EXPECT_EQ(all_targets(*data.validation, 1).count('5'), 1u);
  // Training sees the same as without the file and without validation.
  std::vector<int32_t> with(40), without(40), targets(40);
  data.training->fill(0, 8, 5, with.data(), targets.data());
  source()->fill(0, 8, 5, without.data(), targets.data());
  EXPECT_EQ(with, without);
  EXPECT_THAT(error_of([&] { pair({folder_ / "a.txt", folder_ / "v.txt"}, {folder_ / "v.txt"}); }),
              HasSubstr("v.txt is in both. Name it in one."));
}

TEST_F(TextBatches, EmptyTextIsAnError) {
  std::ofstream(folder_ / "empty.txt") << "";
  std::ofstream(folder_ / "empty.jsonl") << "{\"text\":\"\"}\n";
  DataConfig data;
  data.bigrams = folder_ / "empty.txt";
  EXPECT_THAT(error_of([&] { make_batches(data, 1); }), HasSubstr("empty.txt is empty."));
  data.bigrams = folder_ / "empty.jsonl";
  EXPECT_THAT(error_of([&] { make_batches(data, 1); }),
              HasSubstr("data.bigrams: there is no text in "));
  EXPECT_THAT(error_of([&] { pair({folder_ / "empty.jsonl"}, {}); }),
              HasSubstr("there is no text in "));
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
