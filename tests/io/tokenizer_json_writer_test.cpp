// Tokenizers written as tokenizer.json give the ids that they gave before.
#include "io/tokenizer_json_writer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/tokenizer_json.h"
#include "io_test_util.h"
#include "support/error.h"

namespace weir {
namespace {

class WrittenTokenizer : public ::testing::TestWithParam<const char*> {};

TEST_P(WrittenTokenizer, IsTheSame) {
  const std::string data = std::string(WEIR_TEST_DATA) + "/tokenizer/";
  const BpeModel model = load_tokenizer_json(data + GetParam() + ".json");
  TemporaryFolder folder;
  put_file(folder / "tokenizer.json", tokenizer_json(model));
  const auto before = make_bpe_tokenizer(model), after = load_tokenizer(folder.path());
  EXPECT_EQ(after->fingerprint(), before->fingerprint());
  const std::string text = "Hello  wörld, it's 12345 <|endoftext|>\n\n x";
  EXPECT_EQ(after->encode(text), before->encode(text));
}

INSTANTIATE_TEST_SUITE_P(Cases, WrittenTokenizer,
                         ::testing::Values("gpt2", "llama3", "qwen2", "digits", "partial",
                                           "prefix_space", "removed", "stripping", "llama2",
                                           "mistral", "gemma", "metaspace"),
                         [](const auto& info) { return std::string(info.param); });

TEST(TokenizerJson, RefusesStepsThatTheFormatLacks) {
  BpeModel model;
  model.source = "x";
  model.steps = {{SplitStep::Kind::prefix_space, ""}, {SplitStep::Kind::keep_all, "\\d"}};
  try {
    tokenizer_json(model);
    FAIL() << "expected a UserError";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "[tokenizer] x: a space is put before pieces that are cut again, which cannot be "
                 "written as tokenizer.json.");
  }
}

TEST(TokenizerJson, RefusesScoresThatTheFormatLacks) {
  auto error = [](const BpeModel& model) { return error_text([&] { tokenizer_json(model); }); };
  BpeModel model;
  model.source = "x";
  model.characters = true;
  model.tokens = {"a", "b", "ab", "ba"};
  model.scores = {0, 0, -1, -1};
  EXPECT_EQ(
      error(model),
      "[tokenizer] x: the tokens \"ab\" and \"ba\" have the same score -1, so that their place "
      "in the text decides; tokenizer.json cannot say that.");
  model.scores = {0, 0, -1, -2};
  EXPECT_EQ(nlohmann::json::parse(tokenizer_json(model))["model"]["merges"],
            nlohmann::json::parse(R"([["a","b"],["b","a"]])"));
  model.whole = {2};
  EXPECT_EQ(
      error(model),
      "[tokenizer] x: tokens that are found in text or never made by joining cannot be written "
      "as tokenizer.json; hand on the file itself.");
}

TEST(TokenizerJson, HasAConfigurationBesideIt) {
  SpecialTokens special;
  EXPECT_FALSE(nlohmann::json::parse(tokenizer_config_json(special)).contains("eos_token"));
  special.end = NamedToken{7, "<|end|>", ""};
  special.begin = NamedToken{8, "<s>", ""};
  special.adds_begin = true;
  auto json = nlohmann::json::parse(tokenizer_config_json(special));
  EXPECT_EQ(json.at("eos_token"), "<|end|>");
  EXPECT_EQ(json.at("bos_token"), "<s>");
  EXPECT_FALSE(json.contains("add_bos_token"));
  special.adds_source = "somewhere";
  json = nlohmann::json::parse(tokenizer_config_json(special));
  EXPECT_EQ(json.at("add_bos_token"), true);
  EXPECT_EQ(json.at("add_eos_token"), false);
}

}  // namespace
}  // namespace weir
