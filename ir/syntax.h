#pragma once
// The grammar of the text of a graph (ir/README.md), without its meaning: text to a tree of words
// that know where they stand. Printer and parser share here what a bare word is.
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

/// Whether a name can be printed without quotes: letters, digits and _ . - + / $, and none of the
/// grammar's own words.
bool is_bare_word(std::string_view name);
/// The name as the text of a graph has it: bare, or quoted.
std::string word_text(const std::string& name);

/// A text and what it is called in messages.
class SourceText {
 public:
  SourceText(std::string_view text, std::string file) : text_(text), file_(std::move(file)) {}
  std::string_view text() const { return text_; }
  int64_t line(size_t offset) const;
  /// "file:3:7: message", the line, and a caret under the column. Columns count characters from 1.
  std::string located(size_t offset, const std::string& message) const;

 private:
  std::string_view text_;
  std::string file_;
};

struct Word {
  std::string text;
  size_t at = 0;  ///< offset in the text
  bool quoted = false;
};

/// "name=word" or "name=[word, word]".
struct AttrText {
  Word name;
  bool list = false;
  std::vector<Word> values;
  size_t at = 0;  ///< of the value
};

/// "f32[4,128]".
struct TypeText {
  Word dtype;
  std::vector<Word> extents;
};

/// "name" or "1:name".
struct NameText {
  std::optional<Word> result;
  Word name;
};

struct InputText {
  Word name;
  TypeText type;
  bool state = false;
  std::vector<AttrText> attrs;
  std::vector<NameText> names;
  std::string where;
};

struct GraphText;

struct NodeText {
  std::vector<Word> labels;
  Word op;
  std::vector<Word> operands;
  std::vector<AttrText> attrs;
  std::vector<TypeText> types;  ///< empty if omitted
  std::vector<NameText> names;
  std::string where;
  std::unique_ptr<GraphText> region;
};

struct OutputText {
  std::optional<Word> name;
  Word value;
};

struct GraphText {
  std::optional<Word> name, stage;
  std::vector<AttrText> attrs;
  std::vector<InputText> inputs;
  std::vector<NodeText> nodes;
  std::vector<OutputText> outputs;
};

/// Regions nest at most this deep.
inline constexpr int kMaxRegionDepth = 4;

/// The tree of a whole text. A UserError says where the first mistake is and what is needed there.
GraphText parse_syntax(const SourceText& source);

}  // namespace weir
