#include "ir/dot.h"

#include <fmt/format.h>

#include "ir/attrs.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

const char* colour(OpClass op_class) {
  switch (op_class) {
    case OpClass::Source:
      return "#d9d9d9";
    case OpClass::Elementwise:
      return "#c6dbef";
    case OpClass::Reduction:
      return "#fdd0a2";
    case OpClass::Movement:
      return "#f7f7f7";
    case OpClass::Contraction:
      return "#a1d99b";
    case OpClass::Composite:
      return "#dadaeb";
    case OpClass::Effect:
      return "#fc9272";
    case OpClass::Kernel:
      return "#ffffff";
  }
  internal_error_at("unknown class");
}

// Lines as a quoted label: DOT knows \" and \\ and, for the end of a line, \n.
std::string label(const std::vector<std::string>& lines) { return quoted(join(lines, "\n")); }

class DotWriter {
 public:
  // `prefix` makes the identifiers of a region's nodes unique.
  DotWriter(const Graph& graph, std::string prefix, std::string indent)
      : graph_(graph), prefix_(std::move(prefix)), indent_(std::move(indent)) {
    names_ = graph.names_by_value();
  }

  // Nodes, edges and outputs.
  std::string body() {
    std::string text;
    for (int32_t id = 0; id < graph_.size(); ++id) text += node(id);
    for (int32_t id = 0; id < graph_.size(); ++id) text += edges(id);
    for (size_t i = 0; i < graph_.outputs().size(); ++i) {
      const Output& output = graph_.outputs()[i];
      std::string name = output.name.empty() ? fmt::format("result {}", i) : output.name;
      text += fmt::format("{}{}out{} [shape=plaintext, label={}];\n", indent_, prefix_, i,
                          label({name}));
      text += edge(output.value, fmt::format("{}out{}", prefix_, i));
    }
    return text;
  }

 private:
  std::string identifier(int32_t id) const { return fmt::format("{}n{}", prefix_, id); }

  std::vector<std::string> lines(int32_t id) const {
    const Node& n = graph_.node(id);
    std::vector<std::string> result;
    if (n.op == Op::input) {
      result.push_back(graph_.input_name(id) + (n.attrs.get_bool("state") ? " (state)" : ""));
    } else {
      result.emplace_back(op_name(n.op));
      for (const auto& [name, value] : n.attrs.entries())
        result.push_back(name + "=" + to_string(value));
    }
    for (size_t r = 0; r < n.types.size(); ++r) {
      result.push_back(to_string(n.types[r]));
      auto found = names_.find({id, static_cast<int32_t>(r)});
      if (found != names_.end())
        result.insert(result.end(), found->second.begin(), found->second.end());
    }
    return result;
  }

  std::string node(int32_t id) const {
    const Node& n = graph_.node(id);
    std::string box =
        fmt::format("{} [label={}, fillcolor=\"{}\"{}];\n", identifier(id), label(lines(id)),
                    colour(info(n.op).op_class), n.op == Op::input ? ", shape=ellipse" : "");
    if (!n.region) return indent_ + box;
    // The kernel's own box stands in the cluster, so that edges between kernels end there.
    std::string inner = indent_ + "  ";
    return fmt::format("{}subgraph cluster_{} {{\n{}label={};\n{}{}{}{}}}\n", indent_,
                       identifier(id), inner, label({"kernel " + n.attrs.get_string("schedule")}),
                       inner, box, DotWriter(*n.region, identifier(id) + "_", inner).body(),
                       indent_);
  }

  std::string edges(int32_t id) const {
    std::string text;
    for (Value input : graph_.node(id).inputs) text += edge(input, identifier(id));
    return text;
  }

  std::string edge(Value from, const std::string& to) const {
    bool several = graph_.node(from).types.size() > 1;
    return fmt::format("{}{} -> {}{};\n", indent_, identifier(from.node), to,
                       several ? fmt::format(" [label=\"{}\"]", from.result) : "");
  }

  const Graph& graph_;
  std::string prefix_, indent_;
  std::map<Value, std::vector<std::string>> names_;
};

}  // namespace

std::string to_dot(const Graph& graph) {
  return fmt::format(
      "digraph {} {{\n"
      "  label={};\n"
      "  node [shape=box, style=filled, fontname=\"Helvetica\"];\n"
      "{}}}\n",
      quoted(graph.name()),
      label({fmt::format("{}, stage {}", graph.name(), stage_name(graph.stage()))}),
      DotWriter(graph, "", "  ").body());
}

}  // namespace weir
