#pragma once
// Where a tokenizer lies, and the files that hand it on with a model.
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace weir {

/// The file that load_tokenizer(what) reads (of a pair the vocab.json); nothing if a folder holds
/// none. In a folder the order is tokenizer.json, vocab.json with merges.txt, tokenizer.model, a
/// single .gguf file. `what` is not "bytes".
std::optional<std::string> tokenizer_path(const std::string& what);

/// The names under which files of a tokenizer lie in the folder of a model, and what else says
/// which tokens begin and end a text.
const std::vector<std::string>& tokenizer_file_names();

/// Files by name with which `transformers`, `tokenizers` and Weir take text to the ids of
/// load_tokenizer(what): the Hugging Face files that lie there as they are, otherwise
/// tokenizer.json and tokenizer_config.json made from the pair, the GGUF file or the 256 bytes
/// (of which other programs take valid UTF-8 only). Empty if a folder holds none.
/// User errors: those of load_tokenizer.
std::map<std::string, std::string> tokenizer_files(const std::string& what);

/// The files that load_tokenizer(what) and choose_text_tokens read for a file `what`, as far as
/// they are there: itself, and those beside it that are never named. Nothing is opened.
std::vector<std::string> files_read_with(const std::string& what);

/// What goes with a model that is copied.
struct TokenizerCopy {
  std::map<std::string, std::string> texts;
  std::string missing;  ///< why there is no tokenizer among them, though the model has one
};

/// The same files for the model at `model` (a folder or a GGUF file), which need not be understood:
/// those of a folder are taken as they are, whatever tokenizer they are of. No user error but for
/// files that cannot be read.
TokenizerCopy copy_tokenizer(const std::string& model);

}  // namespace weir
