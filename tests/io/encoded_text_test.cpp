#include "io/encoded_text.h"

#include <gmock/gmock.h>

#include "io/bpe.h"
#include "io_test_util.h"

namespace weir {
namespace {

using testing::HasSubstr;
using Ids = std::vector<int32_t>;

// A tokenizer of "h", "i" and a token of an unusual name.
std::unique_ptr<Tokenizer> small_tokenizer() {
  BpeModel model;
  model.source = "test";
  model.tokens = {"h", "i", "[END]"};
  model.added = {{.id = 2, .content = "[END]"}};
  return make_bpe_tokenizer(model);
}

class ChoosesTokens : public testing::Test {
 protected:
  TextTokens choose(const TokenWishes& wishes = {}) const {
    return choose_text_tokens(*tokenizer_, folder_.path(), wishes);
  }
  TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_ = small_tokenizer();
};

TEST_F(ChoosesTokens, OfTheModelsConfiguration) {
  EXPECT_EQ(choose().separator.id, std::nullopt);
  EXPECT_TRUE(choose().separator_required);
  put_file(folder_ / "generation_config.json", "{\"eos_token_id\": [1, 2]}");
  EXPECT_EQ(to_string(choose().separator), "1 'i' (generation_config.json: eos_token_id)");
  put_file(folder_ / "config.json", "{\"eos_token_id\": 2}");
  EXPECT_EQ(to_string(choose().separator), "2 '[END]' (config.json: eos_token_id)");
  put_file(folder_ / "config.json", "{\"eos_token_id\": 3}");  // beyond the vocabulary
  EXPECT_EQ(choose().separator.id, 1);
}

TEST_F(ChoosesTokens, WishesComeFirst) {
  put_file(folder_ / "config.json", "{\"eos_token_id\": 2}");
  EXPECT_EQ(to_string(choose({.separator = "h"}).separator), "0 'h' (--separator)");
  EXPECT_EQ(choose({.separator = "1"}).separator.id, 1);
  EXPECT_EQ(choose({.separator = "auto"}).separator.id, 2);
  const TextTokens none = choose({.separator = "none", .begin = "[END]"});
  EXPECT_EQ(to_string(none.separator), "none (--separator)");
  EXPECT_FALSE(none.separator_required);
  EXPECT_EQ(to_string(none.begin), "2 '[END]' (--begin-token)");
  EXPECT_EQ(choose().begin.id, std::nullopt);
  const std::string text = error_text([&] { choose({.separator = "3", .begin = "x"}); });
  EXPECT_THAT(text,
              HasSubstr("[tokens] 2 problems:\n  - --separator is '3'; none, auto, a token or "
                        "an id below 3 is needed (BPE, 3 entries"));
  EXPECT_THAT(text, HasSubstr("\n  - --begin-token is 'x'; "));
}

// Whether or not the tokenizer puts its begin token before a text.
TEST_F(ChoosesTokens, TheTokenizersOwnBeginToken) {
  const std::string text = error_text([&] { choose({.separator = "9", .begin = "tokenizer"}); });
  EXPECT_THAT(text,
              HasSubstr("\n  - --begin-token is tokenizer, but the tokenizer (BPE, 3 entries"));
  EXPECT_THAT(text, HasSubstr("names no begin token (bos_token of tokenizer_config.json). Give a "
                              "token, an id, or none."));
  BpeModel model;
  model.source = "test";
  model.tokens = {"h", "i", "[END]"};
  model.added = {{.id = 2, .content = "[END]"}};
  model.special.begin = NamedToken{2, "[END]", "tokenizer_config.json: bos_token"};
  tokenizer_ = make_bpe_tokenizer(model);
  EXPECT_EQ(choose({.begin = "auto"}).begin.id, std::nullopt);
  EXPECT_EQ(to_string(choose({.begin = "tokenizer"}).begin),
            "2 '[END]' (tokenizer_config.json: bos_token)");
}

TEST(EncodedText, SeparatorsStandBetweenDocumentsOnly) {
  TemporaryFolder folder;
  put_file(folder / "a.jsonl", "{\"text\":\"hi\"}\n{\"text\":\"\"}\n{\"text\":\"ih\"}\n");
  const auto tokenizer = small_tokenizer();
  const TextSource source({folder / "a.jsonl"});
  TextTokens tokens;
  tokens.separator.id = 2;
  const EncodedText text = encode_text(source, *tokenizer, tokens);
  EXPECT_EQ(text.ids, (Ids{0, 1, 2, 1, 0}));
  EXPECT_EQ(text.separators, std::vector<size_t>{2});
  EXPECT_EQ(text.documents, 2U);
  EXPECT_EQ(text.bytes, 4U);
  EXPECT_EQ(changed_note(text), "");
  EXPECT_EQ(encode_text(source, *tokenizer, tokens, 2).ids, (Ids{0, 1})) << "no more than wanted";

  tokens.separator = {};
  EXPECT_THAT(error_text([&] { encode_text(source, *tokenizer, tokens); }),
              HasSubstr("there are several documents, but no file says which token"));
  EXPECT_EQ(encode_text(source, *tokenizer, tokens, 2).ids, (Ids{0, 1})) << "one document";
  tokens.separator_required = false;
  EXPECT_EQ(encode_text(source, *tokenizer, tokens).ids, (Ids{0, 1, 1, 0}));
  put_file(folder / "empty.jsonl", "{\"text\":\"\"}\n");
  EXPECT_EQ(
      error_text([&] { encode_text(TextSource({folder / "empty.jsonl"}), *tokenizer, tokens); }),
      "[tokens] there is no text in " + (folder / "empty.jsonl") + ".");
  put_file(folder / "foreign.jsonl", "{\"text\":\"abc\"}\n");
  EXPECT_THAT(
      error_text([&] { encode_text(TextSource({folder / "foreign.jsonl"}), *tokenizer, tokens); }),
      HasSubstr("the 3 bytes of text in " + (folder / "foreign.jsonl") + " give no token"));
}

}  // namespace
}  // namespace weir
