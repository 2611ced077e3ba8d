#pragma once
// A model in GGUF: one file, or several as llama-gguf-split cuts it (NAME-00001-of-00003.gguf ...).
#include <memory>
#include <string>
#include <vector>

#include "io/gguf.h"

namespace weir {

class GgufParts {
 public:
  /// Of one file.
  GgufParts(GgufFile file);
  /// `path` is the file, or any of the files. User errors name all files that are missing, and all
  /// that do not belong together: numbers, counts, tensors that two of them have.
  static GgufParts open(const std::string& path);

  /// The first file, which has the metadata of the model.
  const GgufFile& metadata() const { return *files_.front(); }
  const std::vector<std::shared_ptr<const GgufFile>>& files() const { return files_; }
  /// The file that has the tensor, or null.
  const GgufFile* file_of(const std::string& tensor) const;

 private:
  GgufParts() = default;
  std::vector<std::shared_ptr<const GgufFile>> files_;
};

/// The files of the model that a file belongs to by its name, as far as they are there: of several
/// all, otherwise the file itself. Nothing is opened.
std::vector<std::string> gguf_files_with(const std::string& path);

/// The models of a folder, each by its (first) file, in order of their names.
std::vector<std::string> gguf_models_in(const std::string& folder);

}  // namespace weir
