#include "ir/graph.h"

#include <array>

namespace weir {
namespace {
constexpr std::array<const char*, 6> kStages = {"built",   "differentiated", "instrumented",
                                                "lowered", "fused",          "planned"};

std::optional<Value> found_in(const std::map<std::string, Value, std::less<>>& values,
                              std::string_view name) {
  auto found = values.find(name);
  if (found == values.end()) return std::nullopt;
  return found->second;
}

}  // namespace

const char* stage_name(Stage stage) { return kStages[static_cast<size_t>(stage)]; }

std::optional<Stage> parse_stage(std::string_view name) {
  for (size_t i = 0; i < kStages.size(); ++i)
    if (name == kStages[i]) return static_cast<Stage>(i);
  return std::nullopt;
}

std::vector<std::string> stage_names() { return {kStages.begin(), kStages.end()}; }

std::optional<Value> Graph::find_input(std::string_view name) const {
  return found_in(input_of_, name);
}

std::optional<Value> Graph::find_output(std::string_view name) const {
  return found_in(output_of_, name);
}

std::optional<Value> Graph::find(std::string_view name) const { return found_in(names_, name); }

std::map<Value, std::vector<std::string>> Graph::names_by_value() const {
  std::map<Value, std::vector<std::string>> names;
  for (const auto& [name, value] : names_) names[value].push_back(name);
  return names;
}

std::vector<std::vector<int32_t>> Graph::use_counts() const {
  std::vector<std::vector<int32_t>> uses(nodes_.size());
  for (size_t id = 0; id < nodes_.size(); ++id) {
    uses[id].resize(nodes_[id].types.size());
    for (Value input : nodes_[id].inputs) ++uses[input.node][input.result];
  }
  for (const Output& output : outputs_) ++uses[output.value.node][output.value.result];
  return uses;
}

bool Graph::operator==(const Graph& other) const {
  auto same_node = [](const Node& a, const Node& b) {
    bool same_region = a.region == b.region || (a.region && b.region && *a.region == *b.region);
    return a.op == b.op && a.attrs == b.attrs && a.inputs == b.inputs && a.types == b.types &&
           a.where == b.where && same_region;
  };
  if (name_ != other.name_ || stage_ != other.stage_ || attrs_ != other.attrs_ ||
      nodes_.size() != other.nodes_.size() || outputs_.size() != other.outputs_.size() ||
      names_ != other.names_)
    return false;
  for (size_t i = 0; i < nodes_.size(); ++i)
    if (!same_node(nodes_[i], other.nodes_[i])) return false;
  for (size_t i = 0; i < outputs_.size(); ++i)
    if (outputs_[i].name != other.outputs_[i].name || outputs_[i].value != other.outputs_[i].value)
      return false;
  return true;
}

}  // namespace weir
