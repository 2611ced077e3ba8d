#include "io/gguf_tokenizer.h"

#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "gguf_test_util.h"
#include "io/tokenizer_json.h"
#include "io_test_util.h"

namespace weir {
namespace {

using testing::HasSubstr;

const std::string kData = std::string(WEIR_TEST_DATA) + "/tokenizer/";

/// The GGUF metadata of a model that was read from a tokenizer.json.
GgufBuilder metadata(const BpeModel& model, const std::string& pre) {
  std::vector<std::string> tokens = model.tokens;
  std::vector<int32_t> types(tokens.size(), 1);
  for (const AddedToken& token : model.added) {
    auto id = static_cast<size_t>(token.id);
    if (id >= tokens.size()) tokens.resize(id + 1);
    types.resize(tokens.size(), 1);
    tokens[id] = token.content;
    types[id] = token.content[0] == '<' ? 3 : 4;
  }
  for (size_t id = 0; id < tokens.size(); ++id)  // the format has no holes in the vocabulary
    if (tokens[id].empty()) tokens[id] = "[PAD" + std::to_string(id) + "]";
  std::vector<std::string> merges;
  for (const auto& [left, right] : model.merges) merges.push_back(left + " " + right);
  GgufBuilder builder;
  builder.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", pre);
  builder.texts("tokenizer.ggml.tokens", tokens).texts("tokenizer.ggml.merges", merges);
  builder.list("tokenizer.ggml.token_type", kI32, types);
  return builder;
}

GgufFile file_of(const GgufBuilder& builder) {
  const std::string bytes = builder.build();
  return GgufFile(MappedFile::from_memory("x", std::as_bytes(std::span(bytes))));
}

// The ids that Hugging Face's tokenizers gives with the same vocabulary. Texts with a token that is
// matched in a second round are left out, since the format does not tell them apart.
TEST(GgufTokenizer, SameIdsAsReference) {
  const std::vector<std::pair<std::string, std::string>> models = {
      {"gpt2", "gpt-2"},    {"digits", "smollm"}, {"digits", "starcoder"}, {"llama3", "llama-bpe"},
      {"llama3", "llama3"}, {"qwen2", "qwen2"},   {"partial", "smollm"}};
  auto cases = nlohmann::json::parse(std::ifstream(kData + "cases.json"));
  TemporaryFolder folder;
  for (const auto& [name, pre] : models) {
    put_file(folder / "model.gguf",
             metadata(load_tokenizer_json(kData + name + ".json"), pre).build());
    auto tokenizer = load_tokenizer(folder.path());
    size_t compared = 0;
    for (size_t i = 0; i < cases["inputs"].size(); ++i) {
      if (!cases["inputs"][i].contains("text")) continue;
      std::string text = cases["inputs"][i]["text"];
      if (text.find("e\xCC\x81t") != text.npos) continue;
      if (text.find("flow<|") != text.npos || text.find("\xC3\xA9t") != text.npos) continue;
      EXPECT_EQ(tokenizer->encode(text), cases["ids"][name][i].get<std::vector<int32_t>>())
          << name << ": " << text;
      ++compared;
    }
    EXPECT_GT(compared, 280U);
  }
}

TEST(GgufTokenizer, WhatIsMissingOrUnknownIsNamed) {
  auto error = [](const GgufBuilder& builder) {
    std::string text = error_text([&] { gguf_tokenizer(file_of(builder)); });
    return text.starts_with("[gguf] x: ") ? text.substr(10) : text;
  };
  EXPECT_EQ(error(GgufBuilder()), "the metadata has no \"tokenizer.ggml.model\".");
  EXPECT_EQ(
      error(GgufBuilder().text("tokenizer.ggml.model", "t5")),
      "the tokenizer is of the model \"t5\"; gpt2 (byte-level BPE) or llama (SentencePiece BPE) "
      "is needed. Give the model's tokenizer.json, or token ids.");
  GgufBuilder builder;
  builder.text("tokenizer.ggml.model", "gpt2");
  EXPECT_THAT(error(builder), HasSubstr("has no \"tokenizer.ggml.pre\", so how text is cut"));
  GgufBuilder other = builder;
  other.text("tokenizer.ggml.pre", "smolm");
  EXPECT_EQ(error(other),
            "tokenizer.ggml.pre is \"smolm\"; one of gpt-2, smollm, starcoder, llama-bpe, llama3, "
            "llama-v3, smaug-bpe, dbrx, qwen2, deepseek-r1-qwen, tekken is needed. Did you mean "
            "smollm? Give the model's tokenizer.json instead.");
  builder.text("tokenizer.ggml.pre", "gpt-2");
  EXPECT_EQ(error(builder),
            "the metadata has no \"tokenizer.ggml.tokens\". Did you mean tokenizer.ggml.model or "
            "tokenizer.ggml.pre?");
  builder.texts("tokenizer.ggml.tokens", {"a", "b", "ab"});
  builder.texts("tokenizer.ggml.merges", {"a b", "ab"});
  builder.list<int32_t>("tokenizer.ggml.token_type", kI32, {1, 1});
  EXPECT_THAT(error(builder),
              testing::AllOf(HasSubstr("there are 2 token types for 3 tokens."),
                             HasSubstr("merge 2 is \"ab\"; two tokens and a space")));
}

/// The GGUF metadata of a SentencePiece model, as llama.cpp's converter writes it.
GgufBuilder llama_metadata(const BpeModel& model) {
  std::vector<int32_t> types;
  for (size_t id = 0; id < model.tokens.size(); ++id) {
    const std::string& token = model.tokens[id];
    types.push_back(id == 0 ? 2 : id < 3 ? 3 : token.starts_with("<0x") ? 6 : 1);
  }
  GgufBuilder builder;
  builder.text("tokenizer.ggml.model", "llama").text("tokenizer.ggml.pre", "default");
  builder.texts("tokenizer.ggml.tokens", model.tokens);
  builder.list("tokenizer.ggml.scores", kF32, model.scores);
  builder.list("tokenizer.ggml.token_type", kI32, types);
  builder.value("tokenizer.ggml.bos_token_id", kU32, raw<uint32_t>(1));
  builder.value("tokenizer.ggml.unknown_token_id", kU32, raw<uint32_t>(0));
  return builder;
}

// SentencePiece's own ids, where a text has no control token; between added tokens Hugging Face's
// pipeline of Llama 2, which puts a space before every stretch of text as llama.cpp does.
TEST(GgufTokenizer, SameIdsAsSentencePiece) {
  const BpeModel model = load_bpe_model(kData + "spm.model");
  auto tokenizer = make_bpe_tokenizer(gguf_tokenizer(file_of(llama_metadata(model))));
  auto cases = nlohmann::json::parse(std::ifstream(kData + "cases.json"));
  for (size_t i = 0; i < cases["inputs"].size(); ++i) {
    if (!cases["inputs"][i].contains("text")) continue;
    const std::string text = cases["inputs"][i]["text"];
    EXPECT_EQ(tokenizer->encode(text), cases["ids"]["spm"][i].get<std::vector<int32_t>>()) << text;
  }
  const SpecialTokens& special = tokenizer->special_tokens();
  EXPECT_EQ(special.begin->text, "<s>");
  EXPECT_TRUE(special.adds_begin);
  const std::vector<int32_t> ids = tokenizer->encode("the<s>flow");
  EXPECT_EQ(ids, load_tokenizer(kData + "llama2.json")->encode("the<s>flow"));
  EXPECT_EQ(tokenizer->decode(ids), "the<s> flow");
  EXPECT_EQ(tokenizer->token_bytes(ids[0]).front(), ' ');
}

TEST(GgufTokenizer, AddSpacePrefixCanBeOff) {
  const BpeModel model = load_bpe_model(kData + "spm.model");
  GgufBuilder builder = llama_metadata(model);
  builder.value("tokenizer.ggml.add_space_prefix", kBoolean, raw<uint8_t>(0));
  auto tokenizer = make_bpe_tokenizer(gguf_tokenizer(file_of(builder)));
  EXPECT_EQ(tokenizer->encode("the flow"),
            load_tokenizer(kData + "gemma.json")->encode("the flow"));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(" the flow")), " the flow");
}

TEST(GgufTokenizer, LlamaNeedsScores) {
  GgufBuilder builder;
  builder.text("tokenizer.ggml.model", "llama");
  builder.texts("tokenizer.ggml.tokens", {"<unk>", "a", "b"});
  builder.list<float>("tokenizer.ggml.scores", kF32, {0, 0});
  builder.value("tokenizer.ggml.unknown_token_id", kU32, raw<uint32_t>(3));
  EXPECT_EQ(error_text([&] { gguf_tokenizer(file_of(builder)); }),
            "[gguf] 2 problems:"
            "\n  - x: there are 2 scores for 3 tokens."
            "\n  - x: tokenizer.ggml.unknown_token_id is 3, but there are 3 tokens.");
}

TEST(GgufTokenizer, TypesAreOptional) {
  GgufBuilder builder;
  builder.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "gpt-2");
  builder.texts("tokenizer.ggml.tokens", {"a", "b", "ab"});
  builder.texts("tokenizer.ggml.merges", {"a b"});
  auto tokenizer = make_bpe_tokenizer(gguf_tokenizer(file_of(builder)));
  EXPECT_EQ(tokenizer->encode("abba"), (std::vector<int32_t>{2, 1, 0}));
}

}  // namespace
}  // namespace weir
