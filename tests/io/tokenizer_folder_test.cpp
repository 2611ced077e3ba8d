// Tokenizers as folders without tokenizer.json.
#include "io/tokenizer_folder.h"

#include <gmock/gmock.h>

#include "io/tokenizer_files.h"
#include "io_test_util.h"

namespace weir {
namespace {

using Ids = std::vector<int32_t>;
using testing::HasSubstr;

// "\u00e9" is byte C3 A9, in the alphabet \u00c3\u00a9; e and the accent apart are e, \u00cc,
// \u0123.
const char* const kVocabulary =
    R"({"a":0,"b":1,"ab":2,"1":3,"2":4,"12":5,"e":6,"\u00c3":7,"\u00a9":8,"\u00c3\u00a9":9,)"
    R"("\u00cc":10,"\u0123":11,"\u0120":12,"\u0120a":13})";
const char* const kMerges = "#version: 0.2\na b\n1 2\n\u00c3 \u00a9\n\u0120 a\n";
const char* const kQwen = R"({"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>",
  "added_tokens_decoder": {
    "14": {"content": "<|endoftext|>", "special": true, "normalized": false},
    "15": {"content": "<|im_end|>", "special": true, "normalized": false, "rstrip": true}}})";

struct Folder : TemporaryFolder {
  Folder() {
    put_file(*this / "vocab.json", kVocabulary);
    put_file(*this / "merges.txt", kMerges);
  }
  std::string error() const {
    return error_text([&] { load_tokenizer(path()); });
  }
};

TEST(TokenizerFolder, Qwen2CutsDigitsAndComposes) {
  Folder folder;
  put_file(folder / "tokenizer_config.json", kQwen);
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->encode("ab12e\xCC\x81<|im_end|> ab"), (Ids{2, 3, 4, 9, 15, 2}));
  EXPECT_EQ(tokenizer->encode("<|endoftext|>"), (Ids{14}));
  EXPECT_EQ(tokenizer->end_of_text(), 15);
  EXPECT_EQ(tokenizer->special_tokens().end->source, "tokenizer_config.json: eos_token");
  EXPECT_FALSE(tokenizer->special_tokens().begin);
  // The tokenizer.json that goes with a copy of the model gives the same ids.
  TemporaryFolder copy;
  for (const auto& [name, text] : tokenizer_files(folder.path())) put_file(copy / name, text);
  EXPECT_EQ(load_tokenizer(copy / "tokenizer.json")->encode("ab12e\xCC\x81<|im_end|> ab"),
            (Ids{2, 3, 4, 9, 15, 2}));
}

TEST(TokenizerFolder, Gpt2KeepsDigitsAndMayPrefix) {
  Folder folder;
  put_file(folder / "tokenizer_config.json", R"({"tokenizer_class": "GPT2TokenizerFast"})");
  EXPECT_EQ(load_tokenizer(folder.path())->encode("ab12e\xCC\x81"), (Ids{2, 5, 6, 10, 11}));
  put_file(folder / "tokenizer_config.json",
           R"({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true})");
  EXPECT_EQ(load_tokenizer(folder.path())->encode("a1"), (Ids{13, 3}));
}

TEST(TokenizerFolder, ConfigurationOfTheModelSaysItElse) {
  Folder folder;
  put_file(folder / "config.json", R"({"model_type": "qwen3"})");
  EXPECT_EQ(load_tokenizer(folder.path())->encode("12"), (Ids{3, 4}));
  put_file(folder / "config.json", R"({"model_type": "gpt2"})");
  EXPECT_EQ(load_tokenizer(folder.path())->encode("12"), (Ids{5}));
  put_file(folder / "config.json", R"({"model_type": "llama"})");
  EXPECT_THAT(folder.error(),
              HasSubstr("config.json says model_type llama and no tokenizer_class. Name one of"));
  put_file(folder / "config.json",
           R"({"model_type": "llama", "tokenizer_class": "GPT2Tokenizer"})");
  EXPECT_EQ(load_tokenizer(folder.path())->encode("12"), (Ids{5}));
}

TEST(TokenizerFolder, NothingIsGuessed) {
  Folder folder;
  const std::string begin =
      "[tokenizer] " + folder.path() +
      ": how the text of vocab.json and merges.txt is cut is known for GPT2Tokenizer, "
      "CodeGenTokenizer and Qwen2Tokenizer; ";
  const std::string end =
      ". Name one of these as tokenizer_class in tokenizer_config.json if it is one, or put the "
      "model's tokenizer.json there (save_pretrained of transformers' AutoTokenizer writes it).";
  EXPECT_EQ(folder.error(),
            begin + "nothing says whose they are, and they are not GPT-2's own" + end);
  put_file(folder / "tokenizer_config.json", R"({"tokenizer_class": "PreTrainedTokenizerFast"})");
  EXPECT_EQ(folder.error(),
            begin + "tokenizer_config.json: tokenizer_class is PreTrainedTokenizerFast" + end);
}

TEST(TokenizerFolder, OldFoldersNameTokensInTwoFiles) {
  Folder folder;
  put_file(folder / "tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer"})");
  put_file(folder / "added_tokens.json", R"({"<|im_end|>": 14, "12e": 15})");
  put_file(folder / "special_tokens_map.json",
           R"({"eos_token": "<|im_end|>", "pad_token": {"content": "ab", "lstrip": true}})");
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->encode("12e<|im_end|> ab"), (Ids{15, 14, 2}));
  EXPECT_EQ(tokenizer->end_of_text(), 14);
  EXPECT_EQ(tokenizer->special_tokens().pad->id, 2);
  put_file(folder / "added_tokens.json", R"({"x": -1})");
  EXPECT_EQ(folder.error(), "[tokenizer] " + (folder / "vocab.json") +
                                ": added_tokens.json has \"x\": -1; an id is needed.");
  put_file(
      folder / "tokenizer_config.json",
      R"({"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": {"x": {"content": "y"}}})");
  EXPECT_EQ(folder.error(), "[tokenizer] " + (folder / "vocab.json") +
                                ": tokenizer_config.json has the added token \"x\": "
                                "{\"content\":\"y\"}; an id and content are needed.");
}

}  // namespace
}  // namespace weir
