#include "io/tokenizer_files.h"

#include <filesystem>

#include "io/file.h"
#include "io/gguf_parts.h"
#include "io/gguf_tokenizer.h"
#include "io/tokenizer_json.h"
#include "io/tokenizer_json_writer.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using Files = std::map<std::string, std::string>;

/// The (first) file of the only GGUF model of a folder, else "".
std::string only_gguf(const fs::path& folder) {
  const std::vector<std::string> models = gguf_models_in(folder.string());
  return models.size() == 1 ? models[0] : "";
}

// The text of a token that ends documents: an added one is kept as text.
std::string spelling(const BpeModel& model, int64_t id) {
  for (const AddedToken& token : model.added)
    if (token.id == id) return token.content;
  return "";
}

Files written(const BpeModel& model, const std::string& end_of_text) {
  return {{"tokenizer.json", tokenizer_json(model)},
          {"tokenizer_config.json", tokenizer_config_json(end_of_text)}};
}

Files of_gguf(const std::string& path) {
  const GgufParts parts = GgufParts::open(path);
  const GgufFile& gguf = parts.metadata();
  if (!gguf.find("tokenizer.ggml.model")) return {};
  const BpeModel model = gguf_tokenizer(gguf);
  const GgufValue* end = gguf.find("tokenizer.ggml.eos_token_id");
  return written(model, end ? spelling(model, end->whole()) : "");
}

}  // namespace

std::optional<std::string> tokenizer_path(const std::string& what) {
  const fs::path path = what;
  if (!fs::is_directory(path)) return what;
  if (file_exists(path / "tokenizer.json")) return path / "tokenizer.json";
  if (file_exists(path / "vocab.json") && file_exists(path / "merges.txt"))
    return path / "vocab.json";
  if (std::string gguf = only_gguf(path); !gguf.empty()) return gguf;
  return std::nullopt;
}

Files tokenizer_files(const std::string& what) {
  if (what == "bytes") return written(byte_model(), "");
  const std::optional<std::string> found = tokenizer_path(what);
  if (!found) return {};
  const fs::path path = *found, folder = path.parent_path();
  if (path.extension() == ".gguf") return of_gguf(*found);
  const bool pair = path.filename() == "vocab.json";
  Files files;
  if (pair || path.filename() == "tokenizer.json")  // a file of another name has no company
    for (const char* name :
         {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
          "merges.txt", "added_tokens.json", "chat_template.jinja", "generation_config.json"})
      if (file_exists(folder / name)) files[name] = read_file(folder / name);
  if (!pair) files["tokenizer.json"] = read_file(path);
  const BpeModel model =
      pair ? load_vocab_and_merges(path, folder / "merges.txt") : load_tokenizer_json(path);
  const auto end = make_bpe_tokenizer(model)->end_of_text();
  files.emplace("tokenizer_config.json", tokenizer_config_json(end ? spelling(model, *end) : ""));
  if (!files.contains("tokenizer.json")) files["tokenizer.json"] = tokenizer_json(model);
  return files;
}

}  // namespace weir
