#pragma once
// Documents of text from files: plain text (one document a file) or C4-schema JSON Lines (one
// object with "text" a line), each plain or gzip.
#include <memory>
#include <string>
#include <vector>

namespace weir {

/// The files behind a list of inputs. An input is a file, a folder (all text files directly in it,
/// by name) or a glob ("data/train.*.json.gz", also with {a,b}). Files ending in .json, .jsonl,
/// .ndjson or these with .gz are JSON Lines, all others plain text.
class TextSource {
 public:
  /// UserError that lists all inputs that name nothing.
  explicit TextSource(const std::vector<std::string>& inputs);

  /// In the order of the inputs, and by name within a folder or glob.
  const std::vector<std::string>& files() const { return files_; }
  /// Hash of the files' bytes, kinds and order, whatever their names and places.
  std::string fingerprint() const;

  static bool is_json_lines(const std::string& path);

 private:
  std::vector<std::string> files_;
};

/// Reads the documents of a source one by one. Blank lines of JSON Lines are skipped; a line that
/// is no JSON object with a string "text" is a UserError with file and line number.
class DocumentReader {
 public:
  explicit DocumentReader(const TextSource& source);
  ~DocumentReader();
  /// The next document, or false after the last.
  bool next(std::string& text);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir
