#pragma once
// Documents of text from files: plain text (one document a file) or JSON Lines (one object with a
// document a line), as they are or compressed with gzip or Zstandard.
#include <memory>
#include <string>
#include <vector>

namespace weir {

struct TextFile {
  std::string path;
  bool json_lines = false;
  bool named = false;  ///< given as such, not found in a folder or by a glob
};

/// The files behind a list of inputs. An input is a file, a folder (all text files directly in it,
/// by name) or a glob ("data/train.*.json.gz", also with {a,b}). Files ending in .json, .jsonl or
/// .ndjson, with or without .gz or .zst, are JSON Lines, and so are those that begin with an object
/// that has the member `key` (C4 has "text"); all others are plain text.
class TextSource {
 public:
  /// Looks at the begin of every file. One UserError lists all inputs that name nothing, files that
  /// are no text in UTF-8 (io/text_kind.h), and named files that are empty.
  explicit TextSource(const std::vector<std::string>& inputs, std::string key = "text");

  /// In the order of the inputs, and by name within a folder or glob.
  const std::vector<TextFile>& files() const { return files_; }
  /// The member of JSON Lines that is a document.
  const std::string& key() const { return key_; }
  /// The paths for messages, the first few.
  std::string names() const;
  /// Leaves out the files that `other` has, too, and returns their paths. UserError: one of them is
  /// named in both, or none is left.
  std::vector<std::string> leave_out(const TextSource& other);
  /// Hash of the files' bytes, kinds and order, whatever their names and places.
  std::string fingerprint() const;

 private:
  std::string key_;
  std::vector<TextFile> files_;
};

/// The inputs that one word names: the word itself where a file has this name as a whole, otherwise
/// its parts between semicolons, or where there is none between commas, that stand outside braces.
std::vector<std::string> split_inputs(const std::string& word);

/// Reads the documents of a source one by one. Blank lines of JSON Lines are skipped; a line that
/// is no JSON object with a string under the source's key is a UserError with file and line number.
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
