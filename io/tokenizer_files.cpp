#include "io/tokenizer_files.h"

#include <filesystem>

#include "io/file.h"
#include "io/gguf_tokenizer.h"
#include "io/tokenizer_json.h"
#include "io/tokenizer_json_writer.h"
#include "support/error.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using Files = std::map<std::string, std::string>;

/// The .gguf file of a folder that holds exactly one, else "".
std::string only_gguf(const fs::path& folder) {
  std::string only;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".gguf") continue;
    if (!only.empty()) return "";
    only = entry.path().string();
  }
  return only;
}

// The text of a token that ends documents: an added one is kept as text.
std::string spelling(const BpeModel& model, int64_t id) {
  for (const AddedToken& token : model.added)
    if (token.id == id) return token.content;
  return "";
}

Files files_as_they_are(const fs::path& folder) {
  Files files;
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "spiece.model", "tekken.json",
        "chat_template.jinja", "chat_template.json", "generation_config.json"})
    if (file_exists(folder / name)) files[name] = read_file(folder / name);
  return files;
}

Files written(const BpeModel& model, const std::string& end_of_text) {
  return {{"tokenizer.json", tokenizer_json(model)},
          {"tokenizer_config.json", tokenizer_config_json(end_of_text)}};
}

Files of_gguf(const std::string& path) {
  const GgufFile gguf(path);
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
  // A file of another name has no company.
  if (pair || path.filename() == "tokenizer.json") files = files_as_they_are(folder);
  if (!pair) files["tokenizer.json"] = read_file(path);
  const BpeModel model =
      pair ? load_vocab_and_merges(path, folder / "merges.txt") : load_tokenizer_json(path);
  const auto end = make_bpe_tokenizer(model)->end_of_text();
  files.emplace("tokenizer_config.json", tokenizer_config_json(end ? spelling(model, *end) : ""));
  if (!files.contains("tokenizer.json")) files["tokenizer.json"] = tokenizer_json(model);
  return files;
}

TokenizerCopy copy_tokenizer(const std::string& model) {
  TokenizerCopy copy;
  if (fs::is_directory(model)) copy.texts = files_as_they_are(model);
  try {
    for (auto& [name, text] : tokenizer_files(model)) copy.texts.emplace(name, std::move(text));
  } catch (const UserError& error) {
    // Files that were copied are whole, whether or not they are understood.
    if (!copy.texts.contains("tokenizer.json") && !copy.texts.contains("tokenizer.model"))
      copy.missing = error.what();
  }
  return copy;
}

}  // namespace weir
