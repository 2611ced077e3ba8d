#include "io/token_cache.h"

#include <gmock/gmock.h>

#include "io/bpe.h"
#include "io_test_util.h"

namespace weir {
namespace {

std::vector<int32_t> all(const TokenStream& stream) {
  std::vector<int32_t> ids(stream.size());
  stream.copy(0, ids);
  return ids;
}

class TokenCacheTest : public testing::Test {
 protected:
  TokenCacheTest() {
    put_file(folder_ / "a.jsonl", "{\"text\":\"hi\"}\n{\"text\":\"\"}\n{\"text\":\"you\"}\n");
    std::filesystem::create_directory(folder_ / "cache");
  }
  TokenStream open() {
    return open_tokens(TextSource({folder_ / "a.jsonl"}), *bytes_, folder_ / "cache", zero_);
  }
  TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> bytes_ = make_byte_tokenizer();
  TextTokens zero_ = choose_text_tokens(*bytes_, "bytes", {});
  std::vector<int32_t> expected_ = {'h', 'i', 0, 'y', 'o', 'u', 0};
};

TEST_F(TokenCacheTest, DocumentsEndWithTheSeparator) {
  TokenStream stream = open();
  EXPECT_EQ(all(stream), expected_);
  EXPECT_EQ(stream.document_count(), 2U);
  EXPECT_EQ(stream.vocabulary_size(), 256);
  EXPECT_EQ(stream.separator(), 0);
  EXPECT_EQ(stream[3], 'y');
  EXPECT_EQ(stream.path(), folder_ / ("cache/tokens-" + stream.key() + ".bin"));
  std::vector<int32_t> some(2);
  stream.copy(5, some);
  EXPECT_EQ(some, (std::vector<int32_t>{'u', 0}));
  EXPECT_THROW(stream.copy(6, some), InternalError);
  TokenStream memory = open_tokens(TextSource({folder_ / "a.jsonl"}), *bytes_, "", zero_);
  EXPECT_EQ(all(memory), expected_);
  EXPECT_EQ(memory.path(), "");
  EXPECT_EQ(memory.key(), stream.key());
}

TEST_F(TokenCacheTest, SecondTimeComesFromTheFile) {
  std::string path = open().path();
  auto first = std::filesystem::last_write_time(path) - std::chrono::hours(1);
  std::filesystem::last_write_time(path, first);
  EXPECT_EQ(all(open()), expected_);
  EXPECT_EQ(std::filesystem::last_write_time(path), first);
  // A moved source is the same source.
  std::filesystem::copy_file(folder_ / "a.jsonl", folder_ / "b.jsonl");
  EXPECT_EQ(
      open_tokens(TextSource({folder_ / "b.jsonl"}), *bytes_, folder_ / "cache", zero_).path(),
      path);
  EXPECT_EQ(std::filesystem::last_write_time(path), first);
}

TEST_F(TokenCacheTest, ChangedInputMakesAnotherFile) {
  std::string path = open().path();
  EXPECT_NE(open_tokens(TextSource({folder_ / "a.jsonl"}), *bytes_, folder_ / "cache",
                        choose_text_tokens(*bytes_, "bytes", {.separator = "10"}))
                .path(),
            path);
  put_file(folder_ / "a.jsonl", "{\"text\":\"ho\"}\n");
  TokenStream changed = open();
  EXPECT_NE(changed.path(), path);
  EXPECT_EQ(all(changed), (std::vector<int32_t>{'h', 'o', 0}));
}

TEST_F(TokenCacheTest, EveryDamageIsFoundAndRepaired) {
  std::string path = open().path();
  std::string good = get_file(path);
  ASSERT_EQ(good.size(), 64U + 2 * expected_.size());
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    put_file(path, bad);
    EXPECT_EQ(all(open()), expected_) << at;
    EXPECT_EQ(get_file(path), good) << at;
  }
  for (size_t size : {size_t{0}, size_t{63}, size_t{64}, good.size() - 1, good.size() - 2}) {
    put_file(path, good.substr(0, size));
    EXPECT_EQ(all(open()), expected_) << size;
  }
  put_file(path, good + "xx");
  EXPECT_EQ(all(open()), expected_);
  EXPECT_EQ(get_file(path), good);
}

TEST_F(TokenCacheTest, LargeVocabularyTakesFourBytes) {
  BpeModel model;
  model.source = "test";
  model.tokens = {"h", "i", "y", "o", "u"};
  model.tokens.resize(70001);
  model.tokens[70000] = "<|endoftext|>";
  auto tokenizer = make_bpe_tokenizer(model);
  std::vector<int32_t> expected = {0, 1, 70000, 2, 3, 4, 70000};
  for (const std::string& cache : {folder_ / "cache", std::string()})
    EXPECT_EQ(all(open_tokens(TextSource({folder_ / "a.jsonl"}), *tokenizer, cache,
                              choose_text_tokens(*tokenizer, folder_.path(), {}))),
              expected);
}

TEST_F(TokenCacheTest, DocumentsMayStandWithoutASeparator) {
  const TextTokens none = choose_text_tokens(*bytes_, "bytes", {.separator = "none"});
  const std::string cache = folder_ / "cache";
  const std::vector<int32_t> expected = {'h', 'i', 'y', 'o', 'u'};
  for (int time = 0; time < 2; ++time) {
    const TokenStream stream = open_tokens(TextSource({folder_ / "a.jsonl"}), *bytes_, cache, none);
    EXPECT_EQ(all(stream), expected);
    EXPECT_EQ(stream.separator(), std::nullopt);
    EXPECT_NE(stream.key(), open().key());
  }
  // One document needs none, whatever the tokenizer has; a cache of two is not taken for it.
  TextTokens unknown = none;
  unknown.separator_required = true;
  put_file(folder_ / "one.txt", "hi");
  EXPECT_EQ(all(open_tokens(TextSource({folder_ / "one.txt"}), *bytes_, cache, unknown)),
            (std::vector<int32_t>{'h', 'i'}));
  EXPECT_THAT(error_text([&] {
                open_tokens(TextSource({folder_ / "a.jsonl"}), *bytes_, cache, unknown,
                            {.separator_name = "data.separator"});
              }),
              testing::HasSubstr("Give data.separator with a token, an id, or none."));
}

TEST_F(TokenCacheTest, ErrorsSayWhatIsNeeded) {
  TextSource source({folder_ / "a.jsonl"});
  BpeModel model;
  model.tokens = {"h", "i", "y", "o", "u"};
  const auto tokenizer = make_bpe_tokenizer(model);
  EXPECT_EQ(
      error_text([&] {
        open_tokens(source, *tokenizer, "", choose_text_tokens(*tokenizer, folder_.path(), {}));
      }),
      "[tokens] there are several documents, but no file says which token of the tokenizer (BPE, 5 "
      "entries, 0 merges, no token for 251 of the 256 bytes) separates them (eos_token of "
      "tokenizer_config.json, or eos_token_id of config.json). Give --separator with a token, an "
      "id, or none.");
  put_file(folder_ / "empty.jsonl", "{\"text\":\"\"}\n");
  EXPECT_EQ(
      error_text([&] { open_tokens(TextSource({folder_ / "empty.jsonl"}), *bytes_, "", zero_); }),
      "[tokens] there is no text in " + (folder_ / "empty.jsonl") + ".");
  put_file(folder_ / "foreign.jsonl", "{\"text\":\"abc\"}\n");
  EXPECT_THAT(error_text([&] {
                open_tokens(TextSource({folder_ / "foreign.jsonl"}), *tokenizer, "", zero_);
              }),
              testing::HasSubstr("the 3 bytes of text in " + (folder_ / "foreign.jsonl") +
                                 " give no token"));
  // A cache that cannot be kept is a warning.
  EXPECT_EQ(open_tokens(source, *bytes_, folder_ / "a.jsonl/x", zero_).size(), 7u);
  // A failed run leaves no file, so that the next one does not take half a text for the whole.
  put_file(folder_ / "a.jsonl", "{\"text\":\"hi\"}\nbroken\n");
  error_text([&] { open(); });
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / "cache"));
}

}  // namespace
}  // namespace weir
