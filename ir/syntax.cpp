#include "ir/syntax.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/attrs.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr std::string_view kReserved[] = {"graph", "region", "return", "as", "at", "state"};

bool is_reserved(std::string_view text) {
  return std::find(std::begin(kReserved), std::end(kReserved), text) != std::end(kReserved);
}

bool is_word_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '-' || c == '+' || c == '/' || c == '$';
}

// Bytes of UTF-8 that continue a character.
bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

int64_t characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); });
}

// What may stand in a message: one line, of bounded length.
std::string shown(std::string_view text) {
  std::string result;
  for (char c : text.substr(0, 60)) result += static_cast<unsigned char>(c) < 32 ? ' ' : c;
  return text.size() > 60 ? result + "..." : result;
}

struct Token {
  enum Kind : uint8_t { word, string, symbol, newline, end } kind = end;
  std::string text;
  size_t at = 0;
};

[[noreturn]] void fail(const SourceText& source, size_t at, const std::string& message) {
  user_error("parse", "{}", source.located(at, message));
}

// Words, strings and single characters. The end of a line counts only outside brackets.
class Lexer {
 public:
  explicit Lexer(const SourceText& source) : source_(source), text_(source.text()) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) {
      char c = text_[at_];
      if (c == '\n') {
        if (depth_ == 0) tokens_.push_back({Token::newline, "", at_});
        ++at_;
      } else if (c == ' ' || c == '\t' || c == '\r') {
        ++at_;
      } else if (c == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else if (c == '"') {
        string();
      } else if (is_word_character(c)) {
        size_t start = at_;
        while (at_ < text_.size() && is_word_character(text_[at_])) ++at_;
        tokens_.push_back({Token::word, std::string(text_.substr(start, at_ - start)), start});
      } else {
        symbol(c);
      }
    }
    tokens_.push_back({Token::newline, "", at_});
    tokens_.push_back({Token::end, "", at_});
    return std::move(tokens_);
  }

 private:
  void symbol(char c) {
    if (std::string_view("()[]{},=:").find(c) == std::string_view::npos)
      fail(source_, at_,
           fmt::format("unexpected {}. Put names with other characters than letters, digits and "
                       "_ . - + / $ in quotes.",
                       static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) > 126
                           ? fmt::format("byte 0x{:02x}", static_cast<unsigned char>(c))
                           : fmt::format("'{}'", c)));
    if (c == '(' || c == '[' || c == '{') ++depth_;
    if ((c == ')' || c == ']' || c == '}') && depth_ > 0) --depth_;
    tokens_.push_back({Token::symbol, std::string(1, c), at_++});
  }

  void string() {
    Token token{Token::string, "", at_++};
    while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\n') {
      char c = text_[at_++];
      if (c != '\\') {
        token.text += c;
        continue;
      }
      char escaped = at_ < text_.size() ? text_[at_] : '\0';
      if (escaped != '"' && escaped != '\\' && escaped != 'n')
        fail(source_, at_ - 1, "unknown escape; known: \\\" \\\\ \\n.");
      token.text += escaped == 'n' ? '\n' : escaped;
      ++at_;
    }
    if (at_ >= text_.size() || text_[at_] != '"')
      fail(source_, token.at, "this quoted text has no end on its line.");
    ++at_;
    tokens_.push_back(std::move(token));
  }

  const SourceText& source_;
  std::string_view text_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int64_t depth_ = 0;
};

class SyntaxParser {
 public:
  explicit SyntaxParser(const SourceText& source) : source_(source), tokens_(Lexer(source).run()) {}

  GraphText run() {
    skip_newlines();
    if (!takes_keyword("graph")) need("'graph', as in: graph name (x: f32[4]) stage=built");
    GraphText graph = graph_text(0);
    skip_newlines();
    if (peek().kind != Token::end) need("the end of the text: a graph ends with its return");
    return graph;
  }

 private:
  const Token& peek(size_t ahead = 0) const {
    return tokens_[std::min(next_ + ahead, tokens_.size() - 1)];
  }
  bool is_symbol(char c, size_t ahead = 0) const {
    return peek(ahead).kind == Token::symbol && peek(ahead).text[0] == c;
  }
  bool takes(char c) {
    if (!is_symbol(c)) return false;
    ++next_;
    return true;
  }
  bool is_keyword(std::string_view word) const {
    return peek().kind == Token::word && peek().text == word;
  }
  bool takes_keyword(std::string_view word) {
    if (!is_keyword(word)) return false;
    ++next_;
    return true;
  }
  void skip_newlines() {
    while (peek().kind == Token::newline) ++next_;
  }
  bool is_name(size_t ahead = 0) const {
    const Token& token = peek(ahead);
    return token.kind == Token::string || (token.kind == Token::word && !is_reserved(token.text));
  }

  [[noreturn]] void need(const std::string& what) const {
    const Token& token = peek();
    std::string found;
    switch (token.kind) {
      case Token::word:
      case Token::symbol:
        found = "'" + shown(token.text) + "'";
        break;
      case Token::string:
        found = "\"" + shown(token.text) + "\"";
        break;
      case Token::newline:
        found = token.at >= source_.text().size() ? "the end of the text" : "the end of the line";
        break;
      case Token::end:
        found = "the end of the text";
        break;
    }
    fail(source_, token.at, fmt::format("found {}, but need {}.", found, what));
  }
  void expect(char c, const std::string& what) {
    if (!takes(c)) need(what);
  }
  Word name(const std::string& what) {
    if (!is_name()) need(what);
    const Token& token = tokens_[next_++];
    return {token.text, token.at, token.kind == Token::string};
  }
  Word word(const std::string& what) {
    if (peek().kind != Token::word) need(what);
    const Token& token = tokens_[next_++];
    return {token.text, token.at, false};
  }

  GraphText graph_text(int depth) {
    GraphText graph;
    if (is_name()) graph.name = name("a name");
    expect('(', "'(' and the inputs, as in (x: f32[4], w: f32[4,4] state)");
    while (!is_symbol(')')) {
      graph.inputs.push_back(input_text());
      if (!takes(',') && !is_symbol(')')) need("',' and a further input, or ')'");
    }
    ++next_;
    while (peek().kind != Token::newline) {
      AttrText attr = attr_text("stage=... or another attribute of the graph");
      if (attr.name.text == "stage" && !attr.list && !graph.stage)
        graph.stage = attr.values[0];
      else
        graph.attrs.push_back(std::move(attr));
    }
    while (true) {
      skip_newlines();
      if (takes_keyword("return")) break;
      if (peek().kind == Token::end) need("'return' and the outputs, or 'return' alone");
      graph.nodes.push_back(node_text(depth));
    }
    while (peek().kind != Token::newline) {
      graph.outputs.push_back(output_text());
      if (!takes(',')) break;
      skip_newlines();
    }
    end_of_line("',' and a further output, or the end of the line");
    return graph;
  }

  void end_of_line(const std::string& what) {
    if (peek().kind != Token::newline) need(what);
    ++next_;
  }

  InputText input_text() {
    InputText input;
    input.name = name("an input, as in x: f32[4]");
    expect(':', "':' and the input's type");
    input.type = type_text();
    input.state = takes_keyword("state");
    input.attrs = attr_texts();
    input.names = name_texts();
    input.where = where_text();
    return input;
  }

  OutputText output_text() {
    OutputText output;
    if (is_name() && is_symbol('=', 1)) {
      output.name = name("a name");
      ++next_;
      skip_newlines();
    }
    output.value = name("an output: a value, or name = value");
    return output;
  }

  NodeText node_text(int depth) {
    NodeText node;
    if (is_name() && (is_symbol('=', 1) || is_symbol(',', 1))) {
      do {
        skip_newlines();
        node.labels.push_back(name("a further result"));
      } while (takes(','));
      expect('=', "'=' and an op");
      skip_newlines();
    }
    node.op = word("an op, as in A = exp x");
    if (is_reserved(node.op.text)) {
      --next_;
      need("an op, as in A = exp x");
    }
    if (is_name()) {
      do {
        skip_newlines();
        node.operands.push_back(name("an operand"));
      } while (takes(','));
    }
    node.attrs = attr_texts();
    if (takes(':')) {
      do {
        skip_newlines();
        node.types.push_back(type_text());
      } while (takes(','));
    }
    node.names = name_texts();
    node.where = where_text();
    if (is_keyword("region")) {
      if (depth == kMaxRegionDepth)
        need(fmt::format("the end of the line: regions nest at most {} deep", kMaxRegionDepth));
      ++next_;
      node.region = std::make_unique<GraphText>(graph_text(depth + 1));
    } else {
      end_of_line(
          "the end of the line or, in this order, operands, {attributes}, ': types', "
          "'as names', 'at file:line', 'region'");
    }
    return node;
  }

  std::vector<AttrText> attr_texts() {
    std::vector<AttrText> attrs;
    if (!takes('{')) return attrs;
    while (!is_symbol('}')) {
      attrs.push_back(attr_text("an attribute, as in eps=1e-05"));
      if (!takes(',') && !is_symbol('}')) need("',' and a further attribute, or '}'");
    }
    ++next_;
    return attrs;
  }

  AttrText attr_text(const std::string& what) {
    AttrText attr;
    attr.name = name(what);
    expect('=', "'=' and the attribute's value");
    attr.at = peek().at;
    attr.list = takes('[');
    if (!attr.list) {
      attr.values.push_back(attr_value());
      return attr;
    }
    while (!is_symbol(']')) {
      attr.values.push_back(attr_value());
      if (!takes(',') && !is_symbol(']')) need("',' and a further number, or ']'");
    }
    ++next_;
    return attr;
  }
  Word attr_value() {
    if (peek().kind != Token::word && peek().kind != Token::string)
      need("a value: a number, true, false, a dtype, a quoted text or a [list]");
    const Token& token = tokens_[next_++];
    return {token.text, token.at, token.kind == Token::string};
  }

  TypeText type_text() {
    TypeText type;
    type.dtype = word("a type, as in f32[4,128]");
    expect('[', "'[' and the shape, as in f32[4,128] or f32[]");
    while (!is_symbol(']')) {
      type.extents.push_back(word("an extent, as in f32[4,128]"));
      if (!takes(',') && !is_symbol(']')) need("',' and a further extent, or ']'");
    }
    ++next_;
    return type;
  }

  std::vector<NameText> name_texts() {
    std::vector<NameText> names;
    if (!takes_keyword("as")) return names;
    do {
      NameText text;
      text.name = name("a name");
      if (takes(':')) {
        text.result = text.name;
        text.name = name("the name of that result");
      }
      names.push_back(std::move(text));
    } while (is_name());
    return names;
  }

  std::string where_text() {
    if (!takes_keyword("at")) return "";
    if (peek().kind == Token::string) return tokens_[next_++].text;
    std::string where = word("a place, as in llama.cpp:41").text;
    while (takes(':')) where += ":" + word("a line").text;
    return where;
  }

  const SourceText& source_;
  std::vector<Token> tokens_;
  size_t next_ = 0;
};

}  // namespace

bool is_bare_word(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), is_word_character) &&
         !is_reserved(name);
}

std::string word_text(const std::string& name) { return is_bare_word(name) ? name : quoted(name); }

int64_t SourceText::line(size_t offset) const {
  return 1 + std::count(text_.begin(), text_.begin() + static_cast<int64_t>(offset), '\n');
}

std::string SourceText::located(size_t offset, const std::string& message) const {
  constexpr size_t kContext = 80;
  size_t begin = offset == 0 ? std::string_view::npos : text_.rfind('\n', offset - 1);
  begin = begin == std::string_view::npos ? 0 : begin + 1;
  size_t end = std::min(text_.find('\n', offset), text_.size());
  std::string head = fmt::format("{}:{}:{}: {}", file_, line(offset),
                                 1 + characters(text_.substr(begin, offset - begin)), message);
  size_t from = begin, to = std::min(end, offset + kContext);
  if (offset - begin > kContext) from = offset - kContext;
  while (from < offset && is_continuation(text_[from])) ++from;
  while (to < end && is_continuation(text_[to])) ++to;
  std::string shown_line(text_.substr(from, to - from));
  for (char& c : shown_line)
    if (static_cast<unsigned char>(c) < 32) c = ' ';
  while (!shown_line.empty() && shown_line.back() == ' ') shown_line.pop_back();
  std::string before = from > begin ? "..." : "";
  int64_t column =
      static_cast<int64_t>(before.size()) + characters(text_.substr(from, offset - from));
  return fmt::format("{}\n  {}{}{}\n  {}^", head, before, shown_line, to < end ? "..." : "",
                     std::string(static_cast<size_t>(column), ' '));
}

GraphText parse_syntax(const SourceText& source) { return SyntaxParser(source).run(); }

}  // namespace weir
