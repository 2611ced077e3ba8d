#include "passes/cut.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "ir/edit.h"
#include "passes/op_builder.h"
#include "support/error.h"

namespace weir {
namespace {

void need_built(const Graph& graph, const char* what) {
  if (graph.stage() != Stage::built)
    user_error("cut",
               "graph {} is {} already; {} comes before the gradient. Give the graph as it was "
               "built.",
               graph.name(), stage_name(graph.stage()), what);
}

class Cut {
 public:
  Cut(const Graph& graph, const std::vector<CutPoint>& points)
      : graph_(graph), editor_(graph.name()), map_(graph.nodes().size()) {
    for (const CutPoint& point : points)
      if (!input_of_.emplace(point.value, point.input).second)
        user_error("cut", "the value of input {} is a point of the cut twice. Name it once.",
                   point.input);
    find_needed();
    find_named();
  }

  GraphPtr run() {
    for (const auto& [name, value] : graph_.attrs().entries()) editor_.set_attribute(name, value);
    for (int32_t id : graph_.inputs())
      if (needed_[id]) copy(id);
    for (const auto& [value, input] : input_of_)
      made_[value] = editor_.input(input, graph_.type(value));
    for (int32_t id = 0; id < graph_.size(); ++id)
      if (needed_[id] && graph_.node(id).op != Op::input) copy(id);
    for (const Output& output : graph_.outputs()) editor_.output(output.name, at(output.value));
    for (const auto& [name, value] : graph_.names())
      if (is_there(value)) editor_.name(at(value), name);
    return editor_.finish();
  }

 private:
  bool is_cut(Value value) const { return input_of_.contains(value); }
  bool is_there(Value value) const { return is_cut(value) || needed_[value.node]; }

  void need_operands(int32_t id) {
    for (Value input : graph_.node(id).inputs)
      if (!is_cut(input)) needed_[input.node] = true;
  }

  // By the outputs.
  void find_needed() {
    needed_.resize(graph_.nodes().size());
    for (const Output& output : graph_.outputs())
      if (!is_cut(output.value)) needed_[output.value.node] = true;
    for (int32_t id = graph_.size() - 1; id >= 0; --id)
      if (needed_[id]) need_operands(id);
  }

  // By names whose values can be computed from what is there, and lie behind the cut.
  void find_named() {
    std::vector<bool> computable = needed_, behind(graph_.nodes().size());
    for (int32_t id = 0; id < graph_.size(); ++id) {
      const std::vector<Value>& operands = graph_.node(id).inputs;
      const auto each = [&](auto holds) {
        return std::all_of(operands.begin(), operands.end(), holds);
      };
      behind[id] = !each([&](Value input) { return !is_cut(input) && !behind[input.node]; });
      if (graph_.node(id).op != Op::input && !needed_[id])
        computable[id] = each([&](Value input) { return is_cut(input) || computable[input.node]; });
    }
    for (const auto& [name, value] : graph_.names())
      if (behind[value.node] && computable[value.node]) needed_[value.node] = true;
    for (int32_t id = graph_.size() - 1; id >= 0; --id)
      if (needed_[id]) need_operands(id);
  }

  Value at(Value old) const {
    const auto found = made_.find(old);
    return found != made_.end() ? found->second : map_[old.node].at(old.result);
  }

  void copy(int32_t id) {
    const Node& node = graph_.node(id);
    std::vector<Value> operands;
    for (Value operand : node.inputs) operands.push_back(at(operand));
    map_[id] = editor_.add_like(graph_, id, std::move(operands));
  }

  const Graph& graph_;
  GraphEditor editor_;
  std::map<Value, std::string> input_of_;
  std::map<Value, Value> made_;  // what stands for the values of the cut
  std::vector<std::vector<Value>> map_;
  std::vector<bool> needed_;  // by node
};

}  // namespace

GraphPtr cut(const GraphPtr& graph, const std::vector<CutPoint>& points) {
  need_built(*graph, "a cut");
  return Cut(*graph, points).run();
}

GraphPtr with_upstream(const GraphPtr& graph, Value value, const std::string& upstream) {
  need_built(*graph, "a loss");
  const Type type = graph->type(value);
  if (!is_float(type.dtype))
    user_error("cut", "{} is asked to be the gradient of a value {}, which has none.", upstream,
               to_string(type));
  Rewriter to(*graph);
  const Value gradient = to.input(upstream, type);
  for (int32_t id = 0; id < graph->size(); ++id)
    if (graph->node(id).op != Op::input) to.copy(id);
  for (const auto& [name, named] : graph->names()) to.name(to[named], name);
  const OpBuilder e(to);
  std::vector<int64_t> axes(type.shape.size());
  std::iota(axes.begin(), axes.end(), 0);
  to.output("loss", e.reshape(e.reduce_sum(e.mul(to[value], gradient), axes), {}));
  return to.finish();
}

}  // namespace weir
