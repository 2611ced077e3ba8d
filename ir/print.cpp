#include "ir/print.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "ir/syntax.h"
#include "support/text.h"

namespace weir {
namespace {

// 0 -> A, 25 -> Z, 26 -> AA.
std::string letters(int64_t index) {
  std::string text;
  for (++index; index > 0; index = (index - 1) / 26)
    text.insert(text.begin(), static_cast<char>('A' + (index - 1) % 26));
  return text;
}

// "file.cpp:41" bare if every part is a bare word.
std::string source_place_text(const std::string& where) {
  std::vector<std::string> parts = split(where, ':');
  bool bare = std::all_of(parts.begin(), parts.end(), is_bare_word);
  return bare ? where : quoted(where);
}

// Without a row in ops.def to name the kind, the text itself tells numbers from integers.
std::string graph_attribute_text(const AttrValue& value) {
  std::string text = to_string(value);
  bool integral = text.find_first_not_of("-0123456789") == std::string::npos;
  return std::holds_alternative<double>(value) && integral ? text + ".0" : text;
}

class Printer {
 public:
  Printer(const Graph& graph, const PrintOptions& options) : graph_(graph), options_(options) {
    std::set<std::string> taken;
    for (int32_t id : graph.inputs()) taken.insert(graph.input_name(id));
    int64_t next = 0, next_input = 0;
    for (int32_t id = 0; id < graph.size(); ++id) {
      labels_.emplace_back();
      for (size_t r = 0; r < graph.node(id).types.size(); ++r) {
        std::string label;
        if (graph.node(id).op == Op::input) {
          label = options.signature ? word_text(graph.input_name(id))
                                    : fmt::format("${}", next_input++);
        } else {
          do label = letters(next++);
          while (options.signature && taken.contains(label));
        }
        labels_.back().push_back(label);
      }
    }
    if (options.names) names_ = graph.names_by_value();
  }

  std::string graph_text(const std::string& indent, bool is_region) {
    std::string text = is_region ? "" : "graph ";
    if (options_.signature && !(is_region && graph_.name() == kRegionName))
      text += word_text(graph_.name()) + " ";
    std::vector<std::string> inputs;
    for (int32_t id : graph_.inputs()) {
      const Node& node = graph_.node(id);
      std::string input = labels_[id][0] + ": " + to_string(node.types[0]);
      if (node.attrs.get_bool("state")) input += " state";
      inputs.push_back(input + offset_text(node) + names_text(id) + where_text(node));
    }
    text += "(" + join(inputs, ", ") + ")";
    if (!is_region || (options_.signature && graph_.stage() != kRegionStage))
      text += fmt::format(" stage={}", stage_name(graph_.stage()));
    for (const auto& [name, value] : graph_.attrs().entries())
      text += fmt::format(" {}={}", word_text(name), graph_attribute_text(value));
    text += "\n";
    for (int32_t id = 0; id < graph_.size(); ++id)
      if (graph_.node(id).op != Op::input) text += node_text(id, indent + "  ");
    std::vector<std::string> outputs;
    for (const Output& output : graph_.outputs()) {
      std::string value = labels_[output.value.node][output.value.result];
      bool named = options_.signature && !output.name.empty();
      outputs.push_back(named ? word_text(output.name) + " = " + value : value);
    }
    return text + indent + "  return" + (outputs.empty() ? "" : " ") + join(outputs, ", ") + "\n";
  }

  std::string line(int32_t id) {
    const Node& node = graph_.node(id);
    if (node.op == Op::input) return labels_[id][0] + ": " + to_string(node.types[0]);
    std::string text = node_text(id, "", false);
    return text.substr(0, text.size() - 1);
  }

 private:
  static std::string offset_text(const Node& node) {
    const AttrValue* offset = node.attrs.find(kOffset);
    return offset ? fmt::format(" {{{}={}}}", kOffset, to_string(*offset)) : "";
  }

  std::string where_text(const Node& node) const {
    bool shown = options_.names && !node.where.empty();
    return shown ? " at " + source_place_text(node.where) : "";
  }

  std::string node_text(int32_t id, const std::string& indent, bool with_region = true) {
    const Node& node = graph_.node(id);
    std::vector<std::string> operands, types;
    for (Value input : node.inputs) operands.push_back(labels_[input.node][input.result]);
    for (const Type& type : node.types) types.push_back(to_string(type));
    std::string text = indent;
    if (!labels_[id].empty()) text += join(labels_[id], ", ") + " = ";
    text += op_name(node.op);
    if (!operands.empty()) text += " " + join(operands, ", ");
    if (!node.attrs.empty()) text += " " + to_string(node.attrs);
    if (!types.empty()) text += " : " + join(types, ", ");
    text += names_text(id) + where_text(node);
    if (!node.region) return text + "\n";
    if (!with_region) return text + " region ...\n";
    return text + " region " + Printer(*node.region, options_).graph_text(indent, true);
  }

  std::string names_text(int32_t id) {
    std::vector<std::string> parts;
    for (size_t r = 0; r < graph_.node(id).types.size(); ++r) {
      auto found = names_.find({id, static_cast<int32_t>(r)});
      if (found == names_.end()) continue;
      for (const std::string& name : found->second)
        parts.push_back((r == 0 ? "" : fmt::format("{}:", r)) + word_text(name));
    }
    return parts.empty() ? "" : " as " + join(parts, " ");
  }

  const Graph& graph_;
  PrintOptions options_;
  std::vector<std::vector<std::string>> labels_;
  std::map<Value, std::vector<std::string>> names_;
};

}  // namespace

std::string print_graph(const Graph& graph, const PrintOptions& options) {
  return Printer(graph, options).graph_text("", false);
}

std::string print_node(const Graph& graph, int32_t node) { return Printer(graph, {}).line(node); }

std::string structural_key(const Graph& graph) {
  return print_graph(graph, {.names = false, .signature = false});
}

}  // namespace weir
