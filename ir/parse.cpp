#include "ir/parse.h"

#include <fmt/format.h>

#include <charconv>
#include <set>
#include <unordered_map>

#include "ir/attr_kinds.h"
#include "ir/edit.h"
#include "ir/print.h"
#include "ir/syntax.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr std::string_view kOldOffset = "place";  // in text of earlier versions

constexpr size_t kMaxProblems = 10;

// The mistakes found so far, as located texts; throws once there are enough.
class Mistakes {
 public:
  explicit Mistakes(const SourceText& source) : source_(source) {}
  void add(size_t at, const std::string& message) {
    texts_.push_back(source_.located(at, message));
    if (texts_.size() == kMaxProblems) raise();
  }
  size_t count() const { return texts_.size(); }
  const SourceText& source() const { return source_; }
  void raise() const {
    if (texts_.empty()) return;
    if (texts_.size() == 1) user_error("parse", "{}", texts_[0]);
    user_error("parse", "{} {}problems:\n{}", texts_.size(),
               texts_.size() == kMaxProblems ? "or more " : "", join(texts_, "\n"));
  }

 private:
  const SourceText& source_;
  std::vector<std::string> texts_;
};

// " Did you mean ..?"; no help for a word of absurd length.
std::string suggestion(const std::string& given, const std::vector<std::string>& candidates) {
  return given.size() > 80 ? "" : did_you_mean(given, candidates);
}

std::string shown(const std::string& text) {
  std::string cut = text.size() > 80 ? text.substr(0, 80) + "..." : text;
  return quoted(cut).substr(1, quoted(cut).size() - 2);
}

template <typename T>
std::optional<T> number(const Word& word) {
  T value{};
  const char *begin = word.text.data(), *end = begin + word.text.size();
  auto [rest, error] = std::from_chars(begin, end, value);
  if (word.quoted || error != std::errc() || rest != end) return std::nullopt;
  return value;
}

std::optional<bool> boolean(const Word& word) {
  if (word.quoted || (word.text != "true" && word.text != "false")) return std::nullopt;
  return word.text == "true";
}

std::optional<std::vector<int64_t>> integers(const AttrText& text) {
  if (!text.list) return std::nullopt;
  std::vector<int64_t> values;
  for (const Word& word : text.values) {
    auto value = number<int64_t>(word);
    if (!value) return std::nullopt;
    values.push_back(*value);
  }
  return values;
}

// The value as an attribute of this kind, if it is one.
std::optional<AttrValue> value_of_kind(const AttrText& text, AttrKind kind) {
  if (text.list != (kind == AttrKind::Ints)) return std::nullopt;
  auto wrap = [](const auto& value) -> std::optional<AttrValue> {
    if (!value) return std::nullopt;
    return AttrValue(*value);
  };
  switch (kind) {
    case AttrKind::Int:
      return wrap(number<int64_t>(text.values[0]));
    case AttrKind::Float:
      return wrap(number<double>(text.values[0]));
    case AttrKind::Bool:
      return wrap(boolean(text.values[0]));
    case AttrKind::String:
      if (!text.values[0].quoted) return std::nullopt;
      return text.values[0].text;
    case AttrKind::Ints:
      return wrap(integers(text));
    case AttrKind::Dtype:
      if (text.values[0].quoted) return std::nullopt;
      return wrap(parse_dtype(text.values[0].text));
  }
  internal_error_at("unknown attribute kind");
}

std::string needed_for(AttrKind kind) {
  const AttrKindText& text = text_of(kind);
  return *text.example ? fmt::format("{}, as in {}", text.name, text.example) : text.name;
}

// One graph or region: its labels, and the editor that makes it.
class GraphMaker {
 public:
  GraphMaker(const GraphText& text, Mistakes& mistakes, const GraphMaker* parent)
      : text_(text), mistakes_(mistakes), parent_(parent), editor_(name_of(text, parent)) {}

  /// Null if there are mistakes.
  GraphPtr run() {
    size_t before = mistakes_.count();
    editor_.set_stage(stage());
    for (const AttrText& attr : text_.attrs) graph_attribute(attr);
    for (const InputText& input : text_.inputs) add_input(input);
    for (const NodeText& node : text_.nodes)
      for (const Word& label : node.labels) later_.emplace(label.text, label.at);
    for (const NodeText& node : text_.nodes) add(node);
    for (const OutputText& output : text_.outputs) add_output(output);
    return mistakes_.count() == before ? editor_.finish() : nullptr;
  }

 private:
  struct Label {
    size_t at = 0;
    Value value;  ///< invalid after a mistake in its definition
  };

  static std::string name_of(const GraphText& text, const GraphMaker* parent) {
    return text.name ? text.name->text : parent ? std::string(kRegionName) : "";
  }

  template <typename... Args>
  void mistake(size_t at, fmt::format_string<Args...> format, Args&&... args) {
    mistakes_.add(at, fmt::format(format, std::forward<Args>(args)...));
  }
  // Runs `action`; a user error in it becomes a mistake at this place.
  template <typename F>
  bool attempt(size_t at, const F& action) {
    try {
      action();
      return true;
    } catch (const UserError& error) {
      mistake(at, "{}", error.what());
      return false;
    }
  }

  Stage stage() {
    if (!text_.stage) return parent_ ? kRegionStage : Stage::built;
    auto stage = parse_stage(text_.stage->text);
    if (!stage)
      mistake(text_.stage->at, "unknown stage {}; known: {}.{}", shown(text_.stage->text),
              join(stage_names(), ", "), suggestion(text_.stage->text, stage_names()));
    return stage.value_or(Stage::built);
  }

  void graph_attribute(const AttrText& text) {
    if (editor_.graph().attrs().has(text.name.text))
      return mistake(text.name.at, "{} is given twice.", shown(text.name.text));
    for (AttrKind kind : {AttrKind::Int, AttrKind::Float, AttrKind::Bool, AttrKind::String,
                          AttrKind::Ints, AttrKind::Dtype})
      if (auto value = value_of_kind(text, kind))
        return editor_.set_attribute(text.name.text, *value);
    mistake(text.at,
            "the graph's attribute {} is neither a number, true, false, a dtype, a quoted "
            "text nor a list of integers.{}",
            shown(text.name.text), suggestion(text.name.text, {"stage", "arena"}));
  }

  std::optional<Type> type(const TypeText& text) {
    auto dtype = parse_dtype(text.dtype.text);
    if (!dtype) {
      mistake(text.dtype.at, "unknown dtype {}; known: {}.{}", shown(text.dtype.text),
              join(dtype_names(), ", "), suggestion(text.dtype.text, dtype_names()));
      return std::nullopt;
    }
    Type result{*dtype, {}};
    for (const Word& word : text.extents) {
      auto extent = number<int64_t>(word);
      if (!extent || *extent < 1) {
        mistake(word.at, "{} is no extent; a positive integer is needed.", shown(word.text));
        return std::nullopt;
      }
      result.shape.push_back(*extent);
    }
    if (is_valid_shape(result.shape)) return result;
    mistake(text.dtype.at, "this shape has more than {} elements.", kMaxElements);
    return std::nullopt;
  }

  Attrs attributes(Op op, const std::vector<AttrText>& texts) {
    Attrs attrs;
    std::vector<std::string> known;
    for (const AttrSpec& spec : info(op).attributes)
      if (op != Op::input) known.push_back(spec.name);
    for (const AttrText& text : texts) {
      const bool is_old = text.name.text == kOldOffset && (op == Op::kernel || op == Op::input);
      const bool is_offset = text.name.text == kOffset || is_old;
      const std::string name(is_offset ? kOffset : std::string_view(text.name.text));
      const AttrSpec* spec = op == Op::input ? nullptr : info(op).find_attribute(name);
      if (!spec && !is_offset) {
        mistake(text.name.at, "{} has no attribute {}; known: {}.{}", op_name(op),
                shown(text.name.text), known.empty() ? "none" : join(known, ", "),
                suggestion(text.name.text, known));
        continue;
      }
      AttrKind kind = spec ? spec->kind : AttrKind::Ints;
      auto value = value_of_kind(text, kind);
      if (!value)
        mistake(text.at, "attribute {} needs {}.", name, needed_for(kind));
      else if (attrs.has(name))
        mistake(text.name.at, "attribute {} is given twice.", name);
      else
        attrs.set(name, *value);
    }
    return attrs;
  }

  void define(const Word& label, Value value) {
    auto [found, inserted] = labels_.emplace(label.text, Label{label.at, value});
    if (!inserted)
      mistake(label.at, "{} is defined in line {} already. Give each value a label of its own.",
              shown(label.text), mistakes_.source().line(found->second.at));
  }

  void add_input(const InputText& text) {
    size_t before = mistakes_.count();
    auto input_type = type(text.type);
    Attrs attrs = attributes(Op::input, text.attrs);
    attrs.set("name", text.name.text);
    if (text.state) attrs.set("state", true);
    std::vector<Value> results;
    if (mistakes_.count() == before)
      attempt(text.name.at,
              [&] { results = {editor_.add_source(Op::input, *input_type, attrs, text.where)}; });
    define(text.name, results.empty() ? Value{} : results[0]);
    add_names(text.names, results, 1);
  }

  // The value of a label; nothing after a mistake, which has been reported.
  std::optional<Value> use(const Word& word) {
    auto found = labels_.find(word.text);
    if (found != labels_.end()) {
      if (found->second.value.valid()) return found->second.value;
      return std::nullopt;
    }
    auto later = later_.find(word.text);
    if (later != later_.end())
      mistake(word.at, "{} is used before its definition in line {}.", shown(word.text),
              mistakes_.source().line(later->second));
    else if (defined_outside(word.text))
      mistake(word.at,
              "{} lies outside this region. A region sees its inputs alone: make it an "
              "operand of the kernel.",
              shown(word.text));
    else
      mistake(word.at, "unknown value {}.{}", shown(word.text), suggestion(word.text, labels()));
    return std::nullopt;
  }
  bool defined_outside(const std::string& label) const {
    return parent_ && (parent_->labels_.contains(label) || parent_->defined_outside(label));
  }
  std::vector<std::string> labels() const {
    std::set<std::string> sorted;
    for (const auto& [label, entry] : labels_)
      if (label.size() <= 80) sorted.insert(label);
    return {sorted.begin(), sorted.end()};
  }

  void add(const NodeText& text) {
    size_t before = mistakes_.count();
    std::vector<Type> types;
    for (const TypeText& written : text.types)
      if (auto result = type(written)) types.push_back(*result);
    std::vector<Value> operands;
    for (const Word& word : text.operands)
      if (auto value = use(word)) operands.push_back(*value);
    std::vector<Value> results;
    auto op = parse_op(text.op.text);
    if (!op)
      mistake(text.op.at, "unknown op {}.{}", shown(text.op.text),
              suggestion(text.op.text, op_names()));
    else
      results = append(*op, text, operands, types, before);
    const bool good = op && mistakes_.count() == before && operands.size() == text.operands.size();
    if (good) check_results(*op, text, results, types);
    // After a mistake the written types stand in, so that the rest can be checked all the same.
    if (!good && types.size() == text.labels.size()) {
      results.clear();
      for (const Type& stand_in : types) results.push_back(editor_.constant(0, stand_in));
    }
    for (size_t i = 0; i < text.labels.size(); ++i)
      define(text.labels[i], i < results.size() ? results[i] : Value{});
    if (good) add_names(text.names, results, results.size());
  }

  // Appends the node unless a mistake was made in it.
  std::vector<Value> append(Op op, const NodeText& text, const std::vector<Value>& operands,
                            const std::vector<Type>& types, size_t before) {
    if (op == Op::input) {
      mistake(text.op.at, "inputs stand in the head of the graph, as in (x: f32[4]).");
      return {};
    }
    Attrs attrs = attributes(op, text.attrs);
    GraphPtr region;
    if (text.region && op == Op::kernel)
      region = GraphMaker(*text.region, mistakes_, this).run();
    else if (text.region)
      mistake(text.op.at, "{} has no region; only kernel has one.", op_name(op));
    else if (op == Op::kernel)
      mistake(text.op.at, "kernel needs a region, as in: region (a: f32[4]), lines, return.");
    bool is_source = info(op).op_class == OpClass::Source;
    if (is_source && !text.operands.empty())
      mistake(text.operands[0].at, "{} takes no operands.", op_name(op));
    if (is_source && text.types.size() != 1)
      mistake(text.op.at, "{} needs its type, as in: {} {{...}} : f32[4].", op_name(op),
              op_name(op));
    std::vector<Value> results;
    if (mistakes_.count() != before || operands.size() != text.operands.size()) return results;
    attempt(text.op.at, [&] {
      if (is_source)
        results = {editor_.add_source(op, types[0], attrs, text.where)};
      else if (op == Op::kernel)
        results = editor_.add_kernel(operands, attrs, region, text.where);
      else
        results = editor_.add_node(op, operands, attrs, text.where);
    });
    return results;
  }

  void check_results(Op op, const NodeText& text, const std::vector<Value>& results,
                     const std::vector<Type>& types) {
    auto count = [](size_t n, const char* what) {
      return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
    };
    if (text.labels.size() != results.size())
      mistake(text.labels.empty() ? text.op.at : text.labels[0].at, "{} has {}, but {} given.",
              op_name(op), count(results.size(), "result"),
              count(text.labels.size(), "label") + (text.labels.size() == 1 ? " is" : " are"));
    if (types.empty()) return;
    if (types.size() != results.size())
      return mistake(text.types[0].dtype.at, "{} has {}, but {} given.", op_name(op),
                     count(results.size(), "result"),
                     count(types.size(), "type") + (types.size() == 1 ? " is" : " are"));
    for (size_t i = 0; i < results.size(); ++i)
      if (types[i] != editor_.type(results[i]))
        mistake(text.types[i].dtype.at, "type {} is written, but the result is {}.",
                to_string(types[i]), to_string(editor_.type(results[i])));
  }

  void add_names(const std::vector<NameText>& names, const std::vector<Value>& results,
                 size_t count) {
    for (const NameText& text : names) {
      int64_t result = 0;
      if (text.result) result = number<int64_t>(*text.result).value_or(-1);
      const Word& where = text.result ? *text.result : text.name;
      if (result < 0 || result >= static_cast<int64_t>(count))
        mistake(where.at, "name {} is given to result {}, but there are {} results.",
                shown(text.name.text), text.result ? shown(text.result->text) : "0", count);
      else if (result < static_cast<int64_t>(results.size()))
        attempt(text.name.at, [&] { editor_.name(results[result], text.name.text); });
    }
  }

  void add_output(const OutputText& text) {
    auto value = use(text.value);
    if (!value) return;
    attempt(text.name ? text.name->at : text.value.at,
            [&] { editor_.output(text.name ? text.name->text : "", *value); });
  }

  const GraphText& text_;
  Mistakes& mistakes_;
  const GraphMaker* parent_;
  GraphEditor editor_;
  std::unordered_map<std::string, Label> labels_;
  std::unordered_map<std::string, size_t> later_;
};

}  // namespace

GraphPtr parse_graph(std::string_view text, const std::string& file) {
  SourceText source(text, file);
  GraphText tree = parse_syntax(source);
  Mistakes mistakes(source);
  GraphPtr graph = GraphMaker(tree, mistakes, nullptr).run();
  mistakes.raise();
  return graph;
}

}  // namespace weir
