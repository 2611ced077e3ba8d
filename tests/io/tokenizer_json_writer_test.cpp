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
                                           "prefix_space", "removed", "stripping"),
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

TEST(TokenizerJson, HasAConfigurationBesideIt) {
  const auto json = nlohmann::json::parse(tokenizer_config_json("<|end|>"));
  EXPECT_EQ(json.at("eos_token"), "<|end|>");
  EXPECT_FALSE(nlohmann::json::parse(tokenizer_config_json("")).contains("eos_token"));
}

}  // namespace
}  // namespace weir
