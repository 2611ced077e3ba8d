// The tokenizer.model of SentencePiece; its ids are compared in tokenizer_test.cpp.
#include "io/sentencepiece_model.h"

#include <gmock/gmock.h>

#include "io_test_util.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string varint(uint64_t value) {
  std::string out;
  for (; value > 127; value >>= 7) out += static_cast<char>(value | 128);
  return out + static_cast<char>(value);
}
std::string field(uint32_t number, const std::string& bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string field(uint32_t number, uint64_t value) { return varint(number << 3) + varint(value); }
std::string piece(const std::string& text, uint64_t type) {
  return field(1, field(1, text) + field(3, type));
}

std::string error(const std::string& bytes) {
  TemporaryFolder folder;
  put_file(folder / "x.model", bytes);
  std::string text = error_text([&] { load_sentencepiece_model(folder / "x.model"); });
  for (size_t at; (at = text.find(folder / "x.model")) != std::string::npos;)
    text.replace(at, (folder / "x.model").size(), "FILE");
  return text;
}

TEST(SentencePieceModel, WhatIsNotReadIsNamedTogether) {
  EXPECT_EQ(error(piece("<unk>", 2) + piece("a", 5) + field(2, field(3, 1) + field(24, 1)) +
                  field(3, field(1, "nmt_nfkc") + field(2, "map") + field(5, 0))),
            "[tokenizer] 5 problems:"
            "\n  - FILE: the SentencePiece model is of type Unigram; BPE is needed. Give token ids "
            "instead."
            "\n  - FILE: the model changes characters by the rule nmt_nfkc; identity is needed."
            "\n  - FILE: the model puts white space after words; before is needed."
            "\n  - FILE: the model keeps spaces as they are; U+2581 is needed."
            "\n  - FILE: the piece \"a\" is of type 5, which is not implemented.");
}

TEST(SentencePieceModel, DamagedFilesAreRefused) {
  const std::string good = get_file(std::string(WEIR_TEST_DATA) + "/tokenizer/spm.model");
  const std::string text =
      "[tokenizer] FILE is no SentencePiece model, or a damaged one. (A tokenizer.model of "
      "tiktoken "
      "is not read; give the model's tokenizer.json instead.)";
  EXPECT_EQ(error(""), text);
  EXPECT_EQ(error(good.substr(0, good.size() - 1)), text);
  EXPECT_EQ(error("IQ== 0\nIg== 1\n"), text);
  std::mt19937 random(3);
  TemporaryFolder folder;
  for (int i = 0; i < 300; ++i) {
    put_file(folder / "m.model", mutate(good, good.size(), random));
    try {
      const auto tokenizer = load_tokenizer(folder / "m.model");
      tokenizer->encode("the flow of water");
    } catch (const UserError&) {
    }
  }
}

TEST(SentencePieceModel, FolderAddsTokensPastThePieces) {
  TemporaryFolder folder;
  const std::string good = get_file(std::string(WEIR_TEST_DATA) + "/tokenizer/spm.model");
  put_file(folder / "tokenizer.model", good);
  put_file(folder / "tokenizer_config.json", R"({"bos_token": "<s>", "add_bos_token": true,
    "added_tokens_decoder": {"1": {"content": "<s>"}, "640": {"content": "<pad>"}}})");
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->encode("<pad>"), (std::vector<int32_t>{640}));
  EXPECT_NE(tokenizer->encode("<s>"), (std::vector<int32_t>{1}));
  EXPECT_EQ(tokenizer->vocabulary_size(), 641);
  EXPECT_TRUE(tokenizer->special_tokens().adds_begin);
  EXPECT_EQ(tokenizer->special_tokens().begin->id, 1);
  EXPECT_EQ(tokenizer->special_tokens().end->source, "tokenizer.model: eos_id");
}

}  // namespace
}  // namespace weir
