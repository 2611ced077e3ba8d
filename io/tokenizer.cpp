#include "io/tokenizer.h"

#include <filesystem>

#include "io/bpe.h"
#include "io/gguf_tokenizer.h"
#include "io/tokenizer_files.h"
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

/// Adds what lies beside the file; a file of another name has no company.
BpeModel with_special_tokens(BpeModel model, const std::filesystem::path& path) {
  if (path.filename() == "tokenizer.json" || path.filename() == "vocab.json")
    read_special_tokens(
        path.parent_path().string(), [&](std::string_view text) { return token_id(model, text); },
        model.special);
  return model;
}

}  // namespace

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  encode(text, ids);
  return ids;
}

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& what) {
  if (what == "bytes") return make_byte_tokenizer();
  const std::optional<std::string> found = tokenizer_path(what);
  if (!found)
    user_error("tokenizer",
               "the folder {} holds no tokenizer: tokenizer.json, or vocab.json and merges.txt, "
               "or a single .gguf file is needed (or say bytes).",
               what);
  const std::filesystem::path path = *found;
  if (path.extension() == ".gguf")
    return make_bpe_tokenizer(gguf_tokenizer(GgufFile(path.string())));
  if (path.filename() == "vocab.json")
    return make_bpe_tokenizer(with_special_tokens(
        load_vocab_and_merges(path.string(), (path.parent_path() / "merges.txt").string()), path));
  BpeModel model = load_tokenizer_json(path.string());
  if (is_byte_model(model)) return make_byte_tokenizer();
  return make_bpe_tokenizer(with_special_tokens(std::move(model), path));
}

}  // namespace weir
