#include "io/tokenizer_files.h"

#include <filesystem>

#include "io/file.h"
#include "io/gguf_parts.h"
#include "io/gguf_tokenizer.h"
#include "io/tokenizer_json_writer.h"
#include "support/error.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using Files = std::map<std::string, std::string>;

/// The (first) file of the only GGUF model of a folder, else "".
std::string only_gguf(const fs::path& folder) {
  const std::vector<std::string> models = gguf_models_in(folder.string());
  return models.size() == 1 ? models[0] : "";
}

/// What the model's files say of begin and end, and the token of a usual name that ends documents
/// where they name none.
SpecialTokens special_tokens(const BpeModel& model) {
  SpecialTokens special = model.special;
  if (special.end) return special;
  if (const auto end = make_bpe_tokenizer(model)->end_of_text())
    for (const AddedToken& token : model.added)
      if (token.id == *end) special.end = NamedToken{*end, token.content, "its name"};
  return special;
}

Files files_as_they_are(const fs::path& folder) {
  Files files;
  for (const std::string& name : tokenizer_file_names())
    if (file_exists(folder / name)) files[name] = read_file(folder / name);
  return files;
}

/// A file of another name has no company.
bool has_company(const fs::path& path) {
  return path.filename() == "vocab.json" || path.filename() == "tokenizer.json" ||
         path.filename() == "tokenizer.model";
}

Files written(const BpeModel& model) {
  return {{"tokenizer.json", tokenizer_json(model)},
          {"tokenizer_config.json", tokenizer_config_json(special_tokens(model))}};
}

Files of_gguf(const std::string& path) {
  const GgufParts parts = GgufParts::open(path);
  const GgufFile& gguf = parts.metadata();
  if (!gguf.find("tokenizer.ggml.model")) return {};
  return written(gguf_tokenizer(gguf));
}

}  // namespace

const std::vector<std::string>& tokenizer_file_names() {
  static const std::vector<std::string> names = {"tokenizer.json",
                                                 "tokenizer.model",
                                                 "tokenizer_config.json",
                                                 "special_tokens_map.json",
                                                 "added_tokens.json",
                                                 "vocab.json",
                                                 "merges.txt",
                                                 "vocab.txt",
                                                 "spiece.model",
                                                 "tekken.json",
                                                 "chat_template.jinja",
                                                 "chat_template.json",
                                                 "generation_config.json"};
  return names;
}

std::optional<std::string> tokenizer_path(const std::string& what) {
  const fs::path path = what;
  if (!fs::is_directory(path)) return what;
  if (file_exists(path / "tokenizer.json")) return path / "tokenizer.json";
  if (file_exists(path / "vocab.json") && file_exists(path / "merges.txt"))
    return path / "vocab.json";
  if (file_exists(path / "tokenizer.model")) return path / "tokenizer.model";
  if (std::string gguf = only_gguf(path); !gguf.empty()) return gguf;
  return std::nullopt;
}

Files tokenizer_files(const std::string& what) {
  if (what == "bytes") return written(byte_model());
  const std::optional<std::string> found = tokenizer_path(what);
  if (!found) return {};
  const fs::path path = *found, folder = path.parent_path();
  if (path.extension() == ".gguf") return of_gguf(*found);
  const bool pair = path.filename() == "vocab.json", json = path.extension() == ".json" && !pair;
  Files files;
  if (has_company(path)) files = files_as_they_are(folder);
  if (json) files["tokenizer.json"] = read_file(path);
  if (!pair && !json) files["tokenizer.model"] = read_file(path);
  const BpeModel model = load_bpe_model(*found);
  files.emplace("tokenizer_config.json", tokenizer_config_json(special_tokens(model)));
  if (pair) files.emplace("tokenizer.json", tokenizer_json(model));
  return files;
}

std::vector<std::string> files_read_with(const std::string& what) {
  const fs::path path = what, folder = path.parent_path();
  std::vector<std::string> files = gguf_files_with(what);
  if (has_company(path))
    for (const std::string& name : tokenizer_file_names())
      if (file_exists(folder / name)) files.push_back(folder / name);
  // Where the token between documents may stand.
  for (const char* name : {"config.json", "generation_config.json"})
    if (file_exists(folder / name)) files.push_back(folder / name);
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
