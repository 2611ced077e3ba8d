// Begin, end and padding tokens as the files of a tokenizer state them.
#include "io/special_tokens.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "gguf_test_util.h"
#include "io/bpe.h"
#include "io/gguf_tokenizer.h"
#include "io_test_util.h"

namespace weir {
namespace {

using Json = nlohmann::json;

const char* const kJson = R"({
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
  "added_tokens": [{"id": 3, "content": "<s>"}, {"id": 4, "content": "<e>"}, {"id": 5, "content": "<p>"}],
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
  "post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"},
    {"type": "TemplateProcessing",
     "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A"}}],
     "special_tokens": {"<s>": {"id": "<s>", "ids": [3], "tokens": ["<s>"]}}}]}})";

SpecialTokens special(const std::string& config, const std::string& map = "",
                      const char* json = kJson) {
  TemporaryFolder folder;
  put_file(folder / "tokenizer.json", json);
  if (!config.empty()) put_file(folder / "tokenizer_config.json", config);
  if (!map.empty()) put_file(folder / "special_tokens_map.json", map);
  return load_tokenizer(folder.path())->special_tokens();
}

TEST(SpecialTokens, PostProcessorAlone) {
  const SpecialTokens tokens = special("");
  ASSERT_TRUE(tokens.begin);
  EXPECT_EQ(tokens.begin->id, 3);
  EXPECT_EQ(tokens.begin->text, "<s>");
  EXPECT_EQ(tokens.begin->source, "tokenizer.json: post_processor");
  EXPECT_TRUE(tokens.adds_begin);
  EXPECT_FALSE(tokens.adds_end);
  EXPECT_EQ(tokens.adds_source, "tokenizer.json: post_processor");
  EXPECT_FALSE(tokens.end);
  EXPECT_FALSE(tokens.pad);
}

TEST(SpecialTokens, AroundATextAsRobertaHasIt) {
  Json json = Json::parse(kJson);
  json["post_processor"] =
      Json::parse(R"({"type": "RobertaProcessing", "sep": ["<e>", 4], "cls": ["<s>", 3]})");
  const SpecialTokens tokens = special("", "", json.dump().c_str());
  EXPECT_EQ(tokens.begin->id, 3);
  EXPECT_EQ(tokens.end->id, 4);
  EXPECT_TRUE(tokens.adds_begin && tokens.adds_end);
}

TEST(SpecialTokens, ConfigurationBeforeMapBeforePostProcessor) {
  const SpecialTokens tokens =
      special(R"({"bos_token": null, "eos_token": {"content": "<e>", "lstrip": false}})",
              R"({"eos_token": "<p>", "pad_token": "<p>", "unk_token": "ab"})");
  EXPECT_EQ(tokens.begin->id, 3);  // null names none; the post-processor's stays
  EXPECT_EQ(tokens.end->id, 4);
  EXPECT_EQ(tokens.end->source, "tokenizer_config.json: eos_token");
  EXPECT_EQ(tokens.pad->id, 5);
  EXPECT_EQ(tokens.pad->source, "special_tokens_map.json: pad_token");
  EXPECT_TRUE(tokens.adds_begin);
}

TEST(SpecialTokens, AddBosTokenDecidesBoth) {
  const SpecialTokens off = special(R"({"add_bos_token": false, "eos_token": "<e>"})");
  EXPECT_FALSE(off.adds_begin || off.adds_end);
  EXPECT_EQ(off.adds_source, "tokenizer_config.json: add_bos_token, add_eos_token");
  const SpecialTokens end = special(R"({"add_eos_token": true, "eos_token": "<e>"})");
  EXPECT_FALSE(end.adds_begin);
  EXPECT_TRUE(end.adds_end);
}

TEST(SpecialTokens, EndOfTextIsTheOneStated) {
  TemporaryFolder folder;
  put_file(folder / "tokenizer.json", kJson);
  EXPECT_EQ(load_tokenizer(folder.path())->end_of_text(), std::nullopt);
  const std::string print = load_tokenizer(folder.path())->fingerprint();
  put_file(folder / "tokenizer_config.json", R"({"eos_token": "<e>", "pad_token": "absent"})");
  const auto tokenizer = load_tokenizer(folder / "tokenizer.json");
  EXPECT_EQ(tokenizer->end_of_text(), 4);
  EXPECT_FALSE(tokenizer->special_tokens().pad);
  EXPECT_EQ(tokenizer->fingerprint(), print);
  put_file(folder / "tokenizer_config.json", "{");
  EXPECT_THAT(error_text([&] { load_tokenizer(folder.path()); }),
              testing::HasSubstr("tokenizer_config.json is not valid JSON: parse error"));
  EXPECT_EQ(make_byte_tokenizer()->special_tokens().end->id, 0);
}

GgufBuilder gguf(const std::string& pre) {
  GgufBuilder builder;
  builder.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", pre);
  builder.texts("tokenizer.ggml.tokens", {"a", "b", "ab", "<s>"});
  builder.texts("tokenizer.ggml.merges", {"a b"});
  return builder;
}
SpecialTokens special(const GgufBuilder& builder) {
  const std::string bytes = builder.build();
  const GgufFile file(MappedFile::from_memory("x", std::as_bytes(std::span(bytes))));
  return gguf_tokenizer(file).special;
}

TEST(SpecialTokens, KeysOfGguf) {
  SpecialTokens tokens = special(gguf("gpt-2")
                                     .value("tokenizer.ggml.bos_token_id", kU32, raw<uint32_t>(3))
                                     .value("tokenizer.ggml.eos_token_id", kU32, raw<uint32_t>(2)));
  EXPECT_EQ(tokens.begin->id, 3);
  EXPECT_EQ(tokens.begin->text, "<s>");
  EXPECT_EQ(tokens.begin->source, "tokenizer.ggml.bos_token_id");
  EXPECT_EQ(tokens.end->id, 2);
  EXPECT_FALSE(tokens.adds_begin);
  EXPECT_EQ(tokens.adds_source, "");
  tokens = special(gguf("llama-bpe").value("tokenizer.ggml.bos_token_id", kU32, raw<uint32_t>(3)));
  EXPECT_TRUE(tokens.adds_begin);
  EXPECT_EQ(tokens.adds_source, "llama.cpp's default");
  tokens = special(gguf("llama-bpe")
                       .value("tokenizer.ggml.bos_token_id", kU32, raw<uint32_t>(3))
                       .value("tokenizer.ggml.add_bos_token", kBoolean, raw<uint8_t>(0)));
  EXPECT_FALSE(tokens.adds_begin);
  EXPECT_EQ(tokens.adds_source, "tokenizer.ggml.add_bos_token");
  EXPECT_EQ(error_text([] {
              special(gguf("gpt-2").value("tokenizer.ggml.eos_token_id", kU32, raw<uint32_t>(4)));
            }),
            "[gguf] x: tokenizer.ggml.eos_token_id is 4, but there are 4 tokens.");
}

}  // namespace
}  // namespace weir
