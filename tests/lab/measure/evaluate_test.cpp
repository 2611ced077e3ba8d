#include "lab/measure/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "io/npy.h"
#include "lab/lab_test_util.h"
#include "lab/measure/token_input.h"
#include "lab/train/trainer.h"
#include "models/llama.h"

namespace weir {
namespace {

using test::error_of;
using ::testing::HasSubstr;

constexpr int64_t kVocabulary = 11;

ModelSource source() {
  ModelConfig config{.name = "small",
                     .layers = 1,
                     .d_model = 16,
                     .heads = 2,
                     .kv_heads = 1,
                     .d_head = 8,
                     .d_ff = 24,
                     .vocabulary = kVocabulary,
                     .init_deviation = 0.4};
  ModelSource source;
  source.sizes = {"small", 1, 16, 2, 1, 8, 24, kVocabulary, 0};
  source.build = [config](int64_t B, int64_t T) { return build_llama(config, B, T); };
  source.read = [](const Parameter& parameter, float* out) {
    initialise_parameter(parameter, 3, out);
  };
  return source;
}

std::vector<int32_t> ids(int64_t count) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>((i * i + 3 * i) % 11));
  return ids;
}

// Loss of the last `counted` targets of one window of its own length, in f64.
double loss_of(const ModelSource& model, std::vector<int32_t> window, int64_t counted) {
  const auto T = static_cast<int64_t>(window.size()) - 1;
  TokenBatch batch = token_batch(1, T, window);
  for (int64_t t = 0; t < T - counted; ++t) batch.targets[static_cast<size_t>(t)] = -1;
  ModelRun run(model, {.batch = 1, .length = T}, {.interpret = true});
  run.load();
  return run.run(batch);
}

Evaluation evaluate(const ModelSource& model, int64_t count, int64_t context, int64_t stride,
                    bool interpret = false) {
  EvaluateTask task{.context = context, .stride = stride};
  task.run = {.threads = 2, .cache = WEIR_TEST_CACHE "/objects", .interpret = interpret};
  return Evaluator(model, {.ids = ids(count)}, task).evaluate();
}

TEST(Evaluator, CountsEachTokenOnceAndPadsTheLastWindow) {
  const ModelSource model = source();
  const std::vector<int32_t> all = ids(20);  // 19 targets: windows of 8, 8 and 3
  const double expected = (8 * loss_of(model, {all.begin(), all.begin() + 9}, 8) +
                           8 * loss_of(model, {all.begin() + 8, all.begin() + 17}, 8) +
                           3 * loss_of(model, {all.begin() + 16, all.end()}, 3)) /
                          19;
  for (bool interpret : {false, true}) {
    const Evaluation got = evaluate(model, 20, 8, 0, interpret);
    EXPECT_EQ(got.tokens, 19);
    EXPECT_EQ(got.windows, 3);
    EXPECT_NEAR(got.loss, expected, interpret ? 1e-12 : 1e-5);
    EXPECT_NEAR(got.perplexity, std::exp(got.loss), 1e-12);
  }
}

TEST(Evaluator, AStrideGivesLaterTokensMoreContext) {
  const ModelSource model = source();
  const std::vector<int32_t> all = ids(14);  // 13 targets: 8, then 3 new ones, then 2
  const double expected = (8 * loss_of(model, {all.begin(), all.begin() + 9}, 8) +
                           3 * loss_of(model, {all.begin() + 3, all.begin() + 12}, 3) +
                           2 * loss_of(model, {all.begin() + 6, all.end()}, 2)) /
                          13;
  const Evaluation got = evaluate(model, 14, 8, 3);
  EXPECT_EQ(got.tokens, 13);
  EXPECT_EQ(got.windows, 3);
  EXPECT_NEAR(got.loss, expected, 1e-5);
}

TEST(Evaluator, CountsOnlyWhatIsOfTheText) {
  const ModelSource model = source();
  EvaluateTask task{.context = 8};
  task.run = {.cache = WEIR_TEST_CACHE "/objects", .interpret = true};
  const std::vector<int32_t> all = ids(9);
  const auto one = [&](size_t target) {  // of the window that all ids make
    TokenBatch batch = token_batch(1, 8, all);
    for (size_t t = 0; t < 8; ++t)
      if (t + 1 != target) batch.targets[t] = -1;
    ModelRun run(model, {.batch = 1, .length = 8}, {.interpret = true});
    run.load();
    return run.run(batch);
  };
  // Ids 3 and 8 were put there between texts: they are read and not predicted.
  const Evaluation got = Evaluator(model, {.ids = all, .uncounted = {3, 8}}, task).evaluate();
  EXPECT_EQ(got.tokens, 6);
  double sum = 0;
  for (size_t target : {1, 2, 4, 5, 6, 7}) sum += one(target);
  EXPECT_NEAR(got.loss, sum / 6, 1e-12);
}

TEST(Evaluator, ABeginTokenBeginsEveryWindow) {
  const ModelSource model = source();
  EvaluateTask task{.context = 4};
  task.run = {.cache = WEIR_TEST_CACHE "/objects", .interpret = true};
  const std::vector<int32_t> all = ids(10);  // 10 targets: windows of 4, 4 and 2
  const auto window = [&](int64_t first, int64_t last) {
    std::vector<int32_t> with = {7};
    with.insert(with.end(), all.begin() + first, all.begin() + last);
    return loss_of(model, with, last - first);
  };
  Evaluation got = Evaluator(model, {.ids = all, .begin = 7}, task).evaluate();
  EXPECT_EQ(got.tokens, 10);
  EXPECT_EQ(got.windows, 3);
  EXPECT_NEAR(got.loss, (4 * window(0, 4) + 4 * window(4, 8) + 2 * window(8, 10)) / 10, 1e-12);
  // Texts of five ids each: windows end where a text does.
  got = Evaluator(model, {.ids = all, .text_length = 5, .begin = 7}, task).evaluate();
  EXPECT_EQ(got.windows, 4);
  EXPECT_NEAR(got.loss, (4 * window(0, 4) + window(4, 5) + 4 * window(5, 9) + window(9, 10)) / 10,
              1e-12);
  got = Evaluator(model, {.ids = all, .text_length = 5}, task).evaluate();
  EXPECT_EQ(got.tokens, 8);
  EXPECT_NEAR(got.loss,
              (loss_of(model, {all.begin(), all.begin() + 5}, 4) +
               loss_of(model, {all.begin() + 5, all.end()}, 4)) /
                  2,
              1e-12);
}

TEST(Evaluator, RefusesAStrideThatLeavesTokensOut) {
  const ModelSource model = source();
  EXPECT_EQ(error_of([&] { evaluate(model, 20, 8, 9); }),
            "[eval] the stride is 9, but 1 to 8 (the context) is needed, so that no token is left "
            "out.");
  EXPECT_EQ(error_of([&] { evaluate(model, 1, 8, 8); }),
            "[eval] the text has 1 tokens, but at least 2 are needed.");
}

TEST(TokenInput, ArraysAreChecked) {
  test::TemporaryFolder folder;
  const std::string file = folder / "ids.npy";
  const auto write = [&](std::vector<int64_t> shape, std::vector<int64_t> ids) {
    write_npy(file, NpyView{FileDtype::i64, shape, std::as_bytes(std::span(ids))});
  };
  write({2, 3}, {0, 1, 2, 3, 4, 5});
  const TokenBatch batch = read_token_array(file, 6);
  EXPECT_EQ(batch.batch, 2);
  EXPECT_EQ(batch.length, 2);
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{0, 1, 3, 4}));
  EXPECT_EQ(batch.targets, (std::vector<int32_t>{1, 2, 4, 5}));

  write({2, 4}, {0, 6, -1, 3, 4, 7, 8, int64_t{1} << 40});
  const std::string text = error_of([&] { read_token_array(file, 4); });
  EXPECT_THAT(text, HasSubstr("6 ids of "));
  EXPECT_THAT(text,
              HasSubstr(" are outside the vocabulary of 4: 6 at [0,1], -1 at [0,2], 4 at "
                        "[1,0], 7 at [1,1], 8 at [1,2] and 1 more. Tokenise the text with the "
                        "model's own tokenizer (--text does)."));
  write({6}, {0, 1, 2, 3, 4, 5});
  EXPECT_THAT(error_of([&] { read_token_array(file, 6); }),
              HasSubstr("has the shape [6], but [batch, length + 1] is needed"));
  const std::vector<float> floats(4);
  write_npy(file, std::vector<int64_t>{2, 2}, floats);
  EXPECT_THAT(error_of([&] { read_token_array(file, 6); }),
              HasSubstr("holds F32, but token ids are whole numbers (int8 to uint64)."));
}

// As nanoGPT writes train.bin: numbers and nothing else.
TEST(TokenInput, IdsWithoutAHeaderAreReadWhereTheirTypeIsSaid) {
  test::TemporaryFolder folder;
  const std::string file = folder / "train.bin";
  const auto write = [&](const auto& ids) {
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(ids.data()),
               static_cast<std::streamsize>(ids.size() * sizeof ids[0]));
  };
  write(std::vector<uint16_t>{3, 1, 40000, 5});
  const TokenArray array = read_token_ids(file + ":uint16", 65536);
  EXPECT_EQ(array.shape, std::vector<int64_t>{4});
  EXPECT_EQ(array.ids, (std::vector<int32_t>{3, 1, 40000, 5}));
  EXPECT_EQ(read_token_ids(file + ":uint16", 4, 2).ids, (std::vector<int32_t>{3, 1}));
  EXPECT_THAT(error_of([&] { read_token_ids(file + ":uint16", 4); }),
              HasSubstr("2 ids of " + file +
                        " are outside the vocabulary of 4: 40000 at [2], 5 at "
                        "[3]. If they are not uint16, give their type. Tokenise the text"));
  EXPECT_THAT(error_of([&] { read_token_ids(file, 65536); }),
              HasSubstr(file +
                        " is not a .npy file: it does not start with \\x93NUMPY. If it holds "
                        "ids without a header, as nanoGPT's train.bin, say their type: " +
                        file +
                        ":uint16 (or uint8, uint16, uint32, uint64, int8, int16, int32, "
                        "int64)."));
  write(std::vector<uint8_t>{1, 2, 3});
  EXPECT_THAT(error_of([&] { read_token_ids(file + ":uint16", 9); }),
              HasSubstr("has 3 bytes, but ids of uint16 have 2 each: the last is cut off, or the"));
  EXPECT_EQ(read_token_ids(file + ":uint8", 9).ids, (std::vector<int32_t>{1, 2, 3}));
  // Of another type than is said.
  std::vector<uint32_t> wide(20, 7);
  wide[3] = 0;
  write(wide);
  EXPECT_EQ(read_token_ids(file + ":uint32", 8).ids.size(), 20u);
  EXPECT_THAT(error_of([&] { read_token_ids(file + ":uint16", 8); }),
              HasSubstr("every second id of " + file +
                        " is 0 if they are uint16: the file holds "
                        "numbers of twice that width. Give " +
                        file + ":uint32."));
  wide[0] = 20240520;
  write(wide);
  EXPECT_THAT(error_of([&] { read_token_ids(file + ":uint16", 65536); }),
              HasSubstr("begins with the header of llm.c, 1024 bytes, before its ids. Take them"));
  const std::vector<float> floats(4);
  write_npy(file, std::vector<int64_t>{2, 2}, floats);
  EXPECT_THAT(error_of([&] { read_token_ids(file + ":uint16", 65536); }),
              HasSubstr("is a .npy file, which says itself what it holds. Leave :uint16 out."));
  // A file that is called so.
  EXPECT_EQ(token_file("a.bin:uint16").path, "a.bin");
  EXPECT_EQ(token_file("a.bin:float32").path, "a.bin:float32");
  std::ofstream(folder / "a.bin:uint16") << "x";
  EXPECT_FALSE(token_file(folder / "a.bin:uint16").headerless());
}

template <typename Id>
void expect_ids_read(const std::string& file, FileDtype dtype, Id beyond) {
  const std::vector<Id> ids = {0, 1, 2, 3, 4, beyond};
  const std::vector<int64_t> shape = {2, 3};
  write_npy(file, NpyView{dtype, shape, std::as_bytes(std::span(ids))});
  EXPECT_THAT(error_of([&] { read_token_ids(file, 5); }),
              HasSubstr(fmt::format("outside the vocabulary of 5: {} at [1,2]. ", beyond)));
  if (std::cmp_less(beyond, 1 << 30)) {
    EXPECT_EQ(read_token_ids(file, int64_t{1} << 30).ids,
              (std::vector<int32_t>{0, 1, 2, 3, 4, static_cast<int32_t>(beyond)}));
  }
}

TEST(TokenInput, EveryWholeTypeIsRead) {
  test::TemporaryFolder folder;
  const std::string file = folder / "ids.npy";
  expect_ids_read<uint16_t>(file, FileDtype::u16, 65535);
  expect_ids_read<uint32_t>(file, FileDtype::u32, UINT32_MAX);
  expect_ids_read<uint64_t>(file, FileDtype::u64, UINT64_MAX);
  expect_ids_read<int64_t>(file, FileDtype::i64, 50257);
  expect_ids_read<int32_t>(file, FileDtype::i32, 50257);
  expect_ids_read<int16_t>(file, FileDtype::i16, 32767);
  expect_ids_read<uint8_t>(file, FileDtype::u8, 255);
}

TEST(TokenInput, ABeginTokenBeginsEveryWindow) {
  TextTokens tokens;
  tokens.begin.id = 9;
  EXPECT_EQ(ids_of_windows(3, 2, tokens), 6u);
  EXPECT_EQ(ids_of_windows(3, 2, {}), 7u);
  const TokenBatch batch = first_windows({0, 1, 2, 3, 4, 5}, 3, 2, tokens);
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{9, 0, 9, 2, 9, 4}));
  EXPECT_EQ(batch.targets, (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_THAT(error_of([&] { first_windows({0, 1, 2, 3, 4}, 3, 2, tokens); }),
              HasSubstr("has 5 tokens, which make 2 sequences of 2, but 3 are asked for"));
}

TEST(TokenInput, ABeginTokenStandsBeforeEveryRowOfAnArray) {
  test::TemporaryFolder folder;
  const std::string file = folder / "ids.npy";
  const auto write = [&](std::vector<int64_t> shape, std::vector<int64_t> ids) {
    write_npy(file, NpyView{FileDtype::i64, shape, std::as_bytes(std::span(ids))});
  };
  write({2, 3}, {0, 1, 2, 3, 4, 5});
  const TokenBatch batch = read_token_array(file, 10, 9);
  EXPECT_EQ(batch.batch, 2);
  EXPECT_EQ(batch.length, 3);
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{9, 0, 1, 9, 3, 4}));
  EXPECT_EQ(batch.targets, (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
  write({2, 1}, {0, 1});
  EXPECT_EQ(read_token_array(file, 10, 9).tokens, (std::vector<int32_t>{9, 9}));
  write({3}, {0, 1, 2});
  EXPECT_THAT(
      error_of([&] { read_token_array(file, 10, 9); }),
      HasSubstr("has the shape [3], but [batch, length] is needed: the targets, before which "
                "the begin token stands."));
}

TEST(TokenInput, RecordsSayWhichTokensStandAroundText) {
  TextTokens tokens;
  tokens.separator = {2, "<|im_end|>", "config.json: eos_token_id"};
  tokens.begin = {std::nullopt, "", "the tokenizer adds none"};
  EXPECT_EQ(tokens_json(tokens),
            R"({"separator":{"id":2,"token":"<|im_end|>","source":"config.json: eos_token_id"},)"
            R"("begin_token":{"id":null,"source":"the tokenizer adds none"}})");
  tokens.begin = {3, "\xE4\xB8", "--begin-token"};  // a part of a character
  EXPECT_THAT(tokens_json(tokens), HasSubstr(R"("begin_token":{"id":3,"source":"--begin)"));
}

TEST(TokenInput, WindowsShareOneId) {
  const TokenBatch batch = first_windows({0, 1, 2, 3, 4, 5, 6}, 3, 2);
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(batch.targets, (std::vector<int32_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(error_of([] { first_windows({0, 1, 2, 3, 4, 5, 6}, 4, 2); }),
            "[tokens] the text has 7 tokens, which make 3 sequences of 2, but 4 are asked for. "
            "Give more text, or a smaller --batch or --length.");
}

}  // namespace
}  // namespace weir
