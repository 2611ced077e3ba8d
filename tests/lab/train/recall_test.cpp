#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "lab/train/batches.h"
#include "support/error.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

struct Batch {
  std::vector<int32_t> tokens, targets;
};

Batch batch_of(const BatchSource& source, int64_t first, int64_t rows, int64_t T) {
  Batch batch{std::vector<int32_t>(static_cast<size_t>(rows * T)), {}};
  batch.targets = batch.tokens;
  source.fill(first, rows, T, batch.tokens.data(), batch.targets.data());
  return batch;
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

const RecallOptions kSmall = {
    .seed = 3, .pairs = 4, .keys = 6, .values = 5, .queries = 3, .fillers = 2};
bool is_key(int32_t id) { return id < 6; }
bool is_value(int32_t id) { return id >= 6 && id < 11; }
bool is_filler(int32_t id) { return id >= 11 && id < 13; }
constexpr int32_t kStart = 13;

// What a sequence says, read by a program that knows nothing of how it was made.
TEST(Recall, AnswersAreWhatTheSequenceSays) {
  const auto source = make_recall(kSmall);
  ASSERT_EQ(source->vocabulary(), 14);
  const int64_t rows = 200, T = 20;
  const Batch batch = batch_of(*source, 0, rows, T);
  std::map<int64_t, int64_t> places;  // how often a pair stands at a place
  for (int64_t r = 0; r < rows; ++r) {
    const int32_t *tokens = batch.tokens.data() + r * T, *targets = batch.targets.data() + r * T;
    EXPECT_EQ(tokens[0], kStart);
    std::map<int32_t, int32_t> said;
    std::set<int32_t> asked;
    int64_t t = 1;
    for (; t < T && targets[t] < 0; ++t) {
      if (!is_key(tokens[t])) {
        EXPECT_TRUE(is_filler(tokens[t]));
        continue;
      }
      EXPECT_TRUE(is_value(tokens[t + 1])) << "a key stands before its value";
      EXPECT_EQ(targets[t + 1], -1);
      EXPECT_TRUE(said.emplace(tokens[t], tokens[t + 1]).second) << "keys differ";
      ++places[t++];
    }
    EXPECT_EQ(said.size(), 4U);
    EXPECT_EQ(t, T - 3) << "the queries come last";
    for (; t < T; ++t) {
      ASSERT_TRUE(said.contains(tokens[t])) << "what is asked for has been said";
      EXPECT_EQ(targets[t], said[tokens[t]]);
      EXPECT_TRUE(asked.insert(tokens[t]).second) << "no key is asked for twice";
    }
  }
  // Pairs stand anywhere between <s> and the queries at 17: their keys at 1 to 15.
  EXPECT_EQ(places.size(), 15U);
}

TEST(Recall, AllTargetsAreTheNextTokens) {
  RecallOptions options = kSmall;
  const Batch answers = batch_of(*make_recall(options), 7, 3, 20);
  options.answers_only = false;
  const Batch all = batch_of(*make_recall(options), 7, 3, 20);
  EXPECT_EQ(all.tokens, answers.tokens);
  for (size_t i = 0; i < all.targets.size(); ++i) {
    if (answers.targets[i] >= 0)
      EXPECT_EQ(answers.targets[i], all.targets[i]);
    else
      EXPECT_EQ(all.targets[i], all.tokens[i + 1]);
  }
}

TEST(Recall, WithoutABeginTokenThereIsOneMoreFiller) {
  RecallOptions options = kSmall;
  options.begin = false;
  const auto source = make_recall(options);
  EXPECT_EQ(source->vocabulary(), 14) << "models are of one size";
  const Batch batch = batch_of(*source, 0, 50, 20);
  EXPECT_EQ(std::count(batch.tokens.begin(), batch.tokens.end(), kStart), 0);
  EXPECT_EQ(std::count_if(batch.tokens.begin(), batch.tokens.end(), is_filler), 50 * 9);
  EXPECT_EQ(
      std::count_if(batch.targets.begin(), batch.targets.end(), [](int32_t t) { return t >= 0; }),
      50 * 3);
  EXPECT_THAT(source->describe(), HasSubstr("associative recall without a begin token, 4 pairs"));
}

TEST(Recall, BatchesAreAFunctionOfTheirIndexAndHeldOutOnesAreOthers) {
  const auto source = make_recall(kSmall);
  const Batch two = batch_of(*source, 7, 2, 20), one = batch_of(*source, 8, 1, 20);
  EXPECT_TRUE(std::equal(one.tokens.begin(), one.tokens.end(), two.tokens.begin() + 20));
  RecallOptions other = kSmall;
  other.seed = 4;
  EXPECT_NE(batch_of(*make_recall(other), 8, 1, 20).tokens, one.tokens);

  const auto held = held_out(make_recall(kSmall));
  EXPECT_GT(held->sequences(20), int64_t{1} << 50);
  EXPECT_EQ(held->token_text(kStart), "<s>");
  EXPECT_THAT(held->describe(), HasSubstr("held-out sequences of associative recall, 4 pairs"));
  const Batch unseen = batch_of(*held, 0, 200, 20), seen = batch_of(*source, 0, 200, 20);
  std::set<std::vector<int32_t>> trained;
  for (int64_t r = 0; r < 200; ++r)
    trained.emplace(seen.tokens.begin() + r * 20, seen.tokens.begin() + (r + 1) * 20);
  for (int64_t r = 0; r < 200; ++r)
    EXPECT_FALSE(
        trained.contains({unseen.tokens.begin() + r * 20, unseen.tokens.begin() + (r + 1) * 20}));
  EXPECT_EQ(unseen.tokens, batch_of(*held_out(make_recall(kSmall)), 0, 200, 20).tokens);
}

TEST(Recall, NamesOfTokens) {
  const auto source = make_recall(kSmall);
  EXPECT_EQ(source->token_text(0), "k0");
  EXPECT_EQ(source->token_text(6), "v0");
  EXPECT_EQ(source->token_text(12), "f1");
  EXPECT_EQ(source->token_text(13), "<s>");
}

TEST(Recall, ListsBadOptions) {
  EXPECT_EQ(
      error_of(
          [] { make_recall({.pairs = 9, .keys = 8, .values = 0, .queries = 10, .fillers = 0}); }),
      "[recall] 4 problems:\n"
      "  - data.values is 0, but at least 1 is needed.\n"
      "  - data.fillers is 0, but at least 1 is needed.\n"
      "  - data.pairs is 9, but the keys of a sequence differ and data.keys is 8: 1 to 8 are "
      "there.\n"
      "  - data.queries is 10, but each of data.pairs 9 is asked for once at most: 1 to 9 are "
      "there.");
  const auto source = make_recall(kSmall);
  EXPECT_EQ(error_of([&] { batch_of(*source, 0, 1, 11); }),
            "[recall] length is 11, but 4 pairs of two tokens, 3 queries and the begin token need "
            "12. Make length larger, or data.pairs or data.queries smaller.");
  EXPECT_EQ(error_of([&] { batch_of(*source, 0, 1, 12); }), "");
  RecallOptions bare = kSmall;
  bare.begin = false;
  EXPECT_EQ(error_of([&] { batch_of(*make_recall(bare), 0, 1, 11); }), "");
}

}  // namespace
}  // namespace weir
