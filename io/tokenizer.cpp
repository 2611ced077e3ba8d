#include "io/tokenizer.h"

#include <filesystem>

#include "io/bpe.h"
#include "io/gguf_tokenizer.h"
#include "io/sentencepiece_model.h"
#include "io/tokenizer_files.h"
#include "io/tokenizer_folder.h"
#include "io/tokenizer_json.h"
#include "support/error.h"

namespace weir {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() { special_.end = NamedToken{0, std::string(1, '\0'), "byte 0"}; }
  using Tokenizer::encode;
  void encode(std::string_view text, std::vector<int32_t>& ids) const override {
    ids.reserve(ids.size() + text.size());
    for (char byte : text) ids.push_back(static_cast<unsigned char>(byte));
  }
  std::string decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (int32_t id : ids) {
      if (id < 0 || id > 255)
        user_error("tokenizer", "id {} is outside the byte vocabulary 0..255.", id);
      text += static_cast<char>(id);
    }
    return text;
  }
  int32_t vocabulary_size() const override { return 256; }
  std::optional<int32_t> end_of_text() const override { return 0; }
  const SpecialTokens& special_tokens() const override { return special_; }
  std::optional<int32_t> token_id(std::string_view text) const override {
    if (text.size() != 1) return std::nullopt;
    return static_cast<unsigned char>(text[0]);
  }
  std::string fingerprint() const override { return "bytes"; }
  std::string description() const override { return "bytes, 256 entries"; }

 private:
  SpecialTokens special_;
};

}  // namespace

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  encode(text, ids);
  return ids;
}

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

BpeModel load_bpe_model(const std::string& file) {
  const std::filesystem::path path = file;
  if (path.extension() == ".gguf") return gguf_tokenizer(GgufFile(file));
  const bool sentencepiece = path.extension() == ".model", pair = path.filename() == "vocab.json";
  BpeModel model = sentencepiece ? load_sentencepiece_model(file)
                   : pair        ? load_vocabulary_folder(file)
                                 : load_tokenizer_json(file);
  if (path.filename() == "tokenizer.model")
    add_tokens_past_vocabulary(path.parent_path().string(), model);
  // A file of another name has no company.
  if (pair || path.filename() == "tokenizer.json" || path.filename() == "tokenizer.model")
    read_special_tokens(
        path.parent_path().string(), [&](std::string_view text) { return token_id(model, text); },
        model.special);
  return model;
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& what) {
  if (what == "bytes") return make_byte_tokenizer();
  const std::optional<std::string> found = tokenizer_path(what);
  if (!found)
    user_error("tokenizer",
               "the folder {} holds no tokenizer: tokenizer.json, or vocab.json and merges.txt, "
               "or tokenizer.model, or a single .gguf file is needed (or say bytes).",
               what);
  BpeModel model = load_bpe_model(*found);
  return is_byte_model(model) ? make_byte_tokenizer() : make_bpe_tokenizer(std::move(model));
}

}  // namespace weir
