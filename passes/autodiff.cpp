#include "passes/autodiff.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "ir/alias.h"
#include "passes/attention_probes.h"
#include "passes/autodiff_rules.h"
#include "passes/decompose.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

// One flag for every result of every node.
class ValueSet {
 public:
  explicit ValueSet(const Graph& graph) {
    for (const Node& node : graph.nodes()) flags_.emplace_back(node.types.size(), false);
  }
  bool contains(Value value) const { return flags_[value.node][value.result]; }
  void insert(Value value) { flags_[value.node][value.result] = true; }
  bool any(int32_t node) const {
    return std::find(flags_[node].begin(), flags_[node].end(), true) != flags_[node].end();
  }

 private:
  std::vector<std::vector<bool>> flags_;
};

// The nodes that `output` needs.
std::vector<bool> ancestors(const Graph& graph, Value output) {
  std::vector<bool> needed(graph.nodes().size());
  needed[output.node] = true;
  for (int32_t id = output.node; id >= 0; --id)
    if (needed[id])
      for (Value input : graph.node(id).inputs) needed[input.node] = true;
  return needed;
}

// The forward graph in ops that have rules: what the loss needs is decomposed where its gradient is
// only known by its parts, and the loss head computes its gradients at once.
GraphPtr prepare_forward(const GraphPtr& graph, Value loss) {
  std::vector<bool> needed = ancestors(*graph, loss);
  return rewrite(graph, [&](Rewriter& to, int32_t id) -> std::optional<std::vector<Value>> {
    const Node& node = graph->node(id);
    if (!needed[id]) return std::nullopt;
    if (node.op == Op::linear_cross_entropy) {
      auto results =
          to.add_node(Op::linear_cross_entropy_grad, to[node.inputs], node.attrs, node.where);
      return std::vector<Value>{results[0]};
    }
    if (gradient_rule(node.op).kind != GradientKind::decompose) return std::nullopt;
    return decompose_node(to, node.op, node.attrs, to[node.inputs], node.where);
  });
}

std::string described(const Graph& graph, Value value) {
  const Node& node = graph.node(value);
  std::string text = node.op == Op::input ? graph.input_name(value.node) : op_name(node.op);
  for (const auto& [name, named] : graph.names())
    if (named == value) {
      text += " (" + name + ")";
      break;
    }
  return node.where.empty() ? text : text + " built at " + node.where.text();
}

// From the wanted values to the loss.
class Path {
 public:
  Path(const Graph& graph, Value loss, const std::vector<Value>& sources)
      : graph_(graph), depends_(graph), reaches_(graph), ancestors_(ancestors(graph, loss)) {
    for (Value source : sources) depends_.insert(source);
    for (int32_t id = 0; id < graph.size(); ++id) {
      const Node& node = graph.node(id);
      for (size_t i = 0; i < node.inputs.size(); ++i)
        if (carries_gradient(graph, node, i) && depends_.contains(node.inputs[i]))
          for (size_t r = 0; r < node.types.size(); ++r)
            if (is_float(node.types[r].dtype)) depends_.insert({id, static_cast<int32_t>(r)});
    }
    reaches_.insert(loss);
    for (int32_t id = loss.node; id >= 0; --id) {
      const Node& node = graph.node(id);
      if (!reaches_.any(id)) continue;
      for (size_t i = 0; i < node.inputs.size(); ++i)
        if (carries_gradient(graph, node, i)) reaches_.insert(node.inputs[i]);
    }
  }

  bool depends(Value value) const { return depends_.contains(value); }
  bool reaches(Value value) const { return reaches_.contains(value); }
  bool contains(int32_t node) const { return depends_.any(node) && reaches_.any(node); }

  // Why no gradient flows to a value, as the end of a sentence.
  std::string why_not(Value value) const {
    const Type& type = graph_.type(value);
    if (!is_float(type.dtype))
      return fmt::format("it is {}, and only floating-point values have gradients",
                         to_string(type));
    if (!ancestors_[value.node] || stops(value).empty()) return "the loss does not depend on it";
    return "the loss depends on it only through " + join(stops(value), ", ");
  }

 private:
  // The ops at which everything that flows from `value` towards the loss stops.
  std::vector<std::string> stops(Value value) const {
    ValueSet flows(graph_);
    flows.insert(value);
    std::set<std::string> found;
    for (int32_t id = value.node + 1; id < graph_.size(); ++id) {
      if (!ancestors_[id]) continue;
      const Node& node = graph_.node(id);
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        if (!flows.contains(node.inputs[i])) continue;
        if (!carries_gradient(graph_, node, i))
          found.insert(op_name(node.op));
        else
          for (size_t r = 0; r < node.types.size(); ++r) {
            flows.insert({id, static_cast<int32_t>(r)});
            if (!is_float(node.types[r].dtype)) found.insert(op_name(node.op));
          }
      }
    }
    return {found.begin(), found.end()};
  }

  const Graph& graph_;
  ValueSet depends_, reaches_;
  std::vector<bool> ancestors_;
};

// A wanted gradient of what an attention computes inside.
struct Observation {
  std::string name;
  Value shown;
  int32_t attention;
  Value output;  ///< ObservedAttention::output_of
};

class Differentiation {
 public:
  Differentiation(const GraphPtr& graph, Value loss, const Path& path)
      : old_(*graph), to_(*graph), path_(path), names_(graph->names_by_value()) {
    for (int32_t id = 0; id < old_.size(); ++id) {
      if (old_.node(id).op != Op::input) to_.copy(id);
      gradients_.emplace_back(old_.node(id).types.size());
    }
    gradient(loss) = to_.constant(1, to_.type(to_[loss]));
    for (int32_t id = loss.node; id >= 0; --id) step_back(id);
    problems_.raise();
  }

  // The gradient of a value that shows the weights or scores of an attention, under the name given.
  void observe(const Observation& o) {
    const Value out{o.attention, 0}, rows{o.attention, 1};
    Node moved = old_.node(o.attention);
    moved.inputs = to_[moved.inputs];
    observed_.emplace_back(o.name, observed_gradient(to_, old_.node(o.shown), moved, to_[out],
                                                     to_[rows], settled(o.output), gradient(rows)));
  }

  // Carries names and outputs over, adds the gradients of `wrt` as outputs and drops what rules
  // built for operands that did not want it.
  GraphPtr finish(const std::vector<std::string>& wrt) {
    for (const auto& [name, value] : observed_) to_.name(value, gradient_name(name));
    for (const std::string& name : wrt) {
      Value input = expect(old_.find_input(name)), dx = settled(input);
      to_.name(dx, gradient_name(name));
      wrt_.emplace_back(gradient_output(name), dx);
    }
    for (const auto& [value, names] : names_)
      if (path_.depends(value) && path_.reaches(value))
        for (const std::string& name : names) to_.name(settled(value), gradient_name(name));
    for (const Output& output : old_.outputs()) to_.output(output.name, to_[output.value]);
    for (const auto& [name, value] : old_.names()) to_.name(to_[value], name);
    for (const auto& [name, value] : wrt_) to_.output(name, value);
    to_.set_stage(Stage::differentiated);
    return live_graph(to_.finish(), true);
  }

 private:
  std::optional<Value>& gradient(Value value) { return gradients_[value.node][value.result]; }

  // The gradient of a value on the path; zero if nothing arrived.
  Value settled(Value value) {
    if (!gradient(value)) gradient(value) = to_.constant(0, to_.type(to_[value]));
    return expect(gradient(value));
  }

  void step_back(int32_t id) {
    const Node& node = old_.node(id);
    bool arrived = std::any_of(gradients_[id].begin(), gradients_[id].end(),
                               [](const auto& value) { return value.has_value(); });
    if (!arrived || gradient_rule(node.op).kind != GradientKind::rule) return;
    Node moved = node;
    moved.inputs = to_[node.inputs];
    std::vector<Value> results;
    for (size_t r = 0; r < node.types.size(); ++r)
      results.push_back(to_[Value{id, static_cast<int32_t>(r)}]);
    Pullback pullback(
        to_, std::move(moved), std::move(results), gradients_[id],
        {.needs_grad =
             [&](size_t i) {
               return carries_gradient(old_, node, i) && path_.depends(node.inputs[i]);
             },
         .accumulate = [&](size_t i,
                           Value value) { accumulate(node.inputs[i], value, node.where); },
         .problem = [&](const std::string& text) { add_problem(id, text); }});
    gradient_rule(node.op).pull_back(pullback);
  }

  void accumulate(Value target, Value contribution, const SharedText& where) {
    if (!path_.depends(target)) return;
    std::optional<Value>& sum = gradient(target);
    sum = sum ? to_.add(Op::add, {*sum, contribution}, {}, where) : contribution;
  }

  void add_problem(int32_t id, const std::string& text) {
    problems_.add(described(old_, {id, 0}) + ": " + text);
  }

  const Graph& old_;
  Rewriter to_;
  const Path& path_;
  std::map<Value, std::vector<std::string>> names_;
  std::vector<std::vector<std::optional<Value>>> gradients_;
  std::vector<std::pair<std::string, Value>> wrt_, observed_;
  Problems problems_{"autodiff"};
};

// The loss, or a user error.
Value find_loss(const Graph& graph, const std::string& name) {
  std::vector<std::string> outputs;
  for (const Output& output : graph.outputs()) outputs.push_back(output.name);
  auto loss = graph.find_output(name);
  if (!loss)
    user_error("autodiff", "there is no output {} to differentiate; the graph returns {}.{}", name,
               outputs.empty() ? "nothing" : join(outputs, ", "), did_you_mean(name, outputs));
  const Type& type = graph.type(*loss);
  if (!is_float(type.dtype) || type.elements() != 1)
    user_error("autodiff",
               "the loss {} is {}, but one floating-point number is needed. Reduce it with "
               "reduce_sum or reduce_mean.",
               name, to_string(type));
  return *loss;
}

// The values of all wanted names; a user error lists those that do not exist.
std::vector<std::pair<std::string, Value>> find_wanted(const Graph& graph,
                                                       const DifferentiateOptions& options) {
  std::vector<std::string> inputs, names;
  for (int32_t id : graph.inputs()) inputs.push_back(graph.input_name(id));
  for (const auto& [name, value] : graph.names()) names.push_back(name);
  std::vector<std::pair<std::string, Value>> wanted;
  Problems problems("autodiff");
  auto look_up = [&](const std::string& name, std::optional<Value> value, const char* kind,
                     const std::vector<std::string>& candidates) {
    if (value)
      wanted.emplace_back(name, *value);
    else
      problems.add(
          fmt::format("the graph has no {} {}.{}", kind, name, did_you_mean(name, candidates)));
  };
  for (const std::string& name : options.wrt)
    look_up(name, graph.find_input(name), "input", inputs);
  for (const std::string& name : options.named)
    look_up(name, graph.find(name), "value named", names);
  problems.raise();
  if (wanted.empty())
    user_error("autodiff", "nothing to differentiate by: name at least one input or value.");
  return wanted;
}

// Of row statistics only the log-sum-exp has a gradient, which attention_head_gate alone hands on.
void add_readers_of_rows(const Graph& graph, const Path& path, Problems& problems) {
  for (int32_t id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (!path.contains(id) || node.op == Op::identity || node.op == Op::attention_head_gate ||
        gradient_rule(node.op).kind == GradientKind::missing)
      continue;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const Value read = through_identity(graph, node.inputs[i]);
      if (graph.node(read).op != Op::attention || read.result != 1) continue;
      if (carries_gradient(graph, node, i))
        problems.add(described(graph, {read.node, 0}) +
                     ": the loss depends on the row statistics of an attention, through which no "
                     "gradient flows. Put stop_gradient on it, or build the scores from matmul and "
                     "softmax.");
    }
  }
}

}  // namespace

std::string gradient_output(const std::string& input) { return "grad." + input; }
std::string gradient_name(const std::string& name) { return name + ".grad"; }

GraphPtr differentiate(const GraphPtr& graph, const DifferentiateOptions& options) {
  WEIR_CHECK(graph->stage() == Stage::built, "differentiate at stage {}",
             stage_name(graph->stage()));
  find_wanted(*graph, options);
  GraphPtr forward = prepare_forward(graph, find_loss(*graph, options.loss));
  Value loss = expect(forward->find_output(options.loss));
  auto wanted = find_wanted(*forward, options);
  const ObservedAttention observed(*forward);
  std::vector<Observation> observations;
  for (auto& [name, value] : wanted)
    if (auto attention = observed.of(value)) {
      const auto output = observed.output_of(value, *attention);
      if (!output) continue;
      observations.push_back({name, value, *attention, *output});
      value = *output;  // has a gradient if its output has
    }
  std::vector<Value> sources;
  for (const auto& [name, value] : wanted)
    if (is_float(forward->type(value).dtype)) sources.push_back(value);
  Path path(*forward, loss, sources);

  Problems problems("autodiff");
  for (const auto& [name, value] : wanted)
    if (!path.reaches(value))
      problems.add(fmt::format("there is no gradient of {}: {}.", name, path.why_not(value)));
  for (int32_t id = 0; id < forward->size(); ++id)
    if (path.contains(id) && gradient_rule(forward->node(id).op).kind == GradientKind::missing)
      problems.add(fmt::format(
          "{} lies on the way to the loss, but has no gradient. Put stop_gradient on its operands, "
          "or build it from ops that have one.",
          described(*forward, {id, 0})));
  add_readers_of_rows(*forward, path, problems);
  problems.raise();
  Differentiation differentiation(forward, loss, path);
  for (const Observation& o : observations) differentiation.observe(o);
  return differentiation.finish(options.wrt);
}

std::set<std::string> differentiable_names(const GraphPtr& graph, const std::string& loss) {
  if (!graph->find_output(loss)) return {};
  GraphPtr forward = prepare_forward(graph, expect(graph->find_output(loss)));
  Path path(*forward, expect(forward->find_output(loss)), {});
  const ObservedAttention observed(*forward);
  std::set<std::string> found;
  for (const auto& [name, value] : forward->names()) {
    const auto attention = observed.of(value);
    const auto output = attention ? observed.output_of(value, *attention) : value;
    if (output && path.reaches(*output)) found.insert(name);
  }
  for (int32_t id : forward->inputs())
    if (path.reaches({id, 0})) found.insert(forward->input_name(id));
  return found;
}

}  // namespace weir
