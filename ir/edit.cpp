#include "ir/edit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ir/infer.h"
#include "ir/normalizer.h"
#include "ir/print.h"
#include "support/error.h"

namespace weir {
namespace {

// Appends the bytes of what identifies a node, each part with its length, so that two keys are
// equal only if all parts are.
class KeyWriter {
 public:
  std::string take() { return std::move(key_); }

  template <typename T>
  void number(T value) {
    key_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(const std::string& text) {
    number(text.size());
    key_ += text;
  }
  void attribute(const AttrValue& value) {
    number(static_cast<char>(value.index()));
    std::visit(*this, value);
  }
  void operator()(int64_t value) { number(value); }
  void operator()(double value) { number(std::isnan(value) ? std::nan("") : value); }
  void operator()(bool value) { number(value); }
  void operator()(DType value) { number(value); }
  void operator()(const std::string& value) { text(value); }
  void operator()(const std::vector<int64_t>& values) {
    number(values.size());
    for (int64_t value : values) number(value);
  }

 private:
  std::string key_;
};

// Two pure nodes with the same key compute the same values.
std::string intern_key(const Node& node) {
  KeyWriter key;
  key.number(node.op);
  key.number(node.inputs.size());
  for (Value input : node.inputs) {
    key.number(input.node);
    key.number(input.result);
  }
  for (const Type& type : node.types) {
    key.number(type.dtype);
    key(type.shape);
  }
  for (const auto& [name, value] : node.attrs.entries()) {
    key.text(name);
    key.attribute(value);
  }
  return key.take();
}

// Every identity is a use of its operand of its own, with a gradient and a name of its own.
bool is_internable(const Node& node) {
  return node.op != Op::input && node.op != Op::kernel && node.op != Op::identity &&
         !info(node.op).has(op_trait::Effect);
}

}  // namespace

GraphEditor::GraphEditor(std::string name, Stage stage) : graph_(std::make_shared<Graph>()) {
  graph_->name_ = std::move(name);
  graph_->stage_ = stage;
}

Value GraphEditor::input(const std::string& name, const Type& type, bool state) {
  if (graph_->find_input(name))
    user_error("graph", "an input named {} exists already. Give each input a name of its own.",
               name);
  WEIR_CHECK(graph_->inputs_.size() == graph_->nodes_.size(), "input {} after other nodes", name);
  Attrs attrs{{"name", name}};
  if (state) attrs.set("state", true);
  return add_source(Op::input, type, attrs);
}

Value GraphEditor::constant(double value, const Type& type) {
  return add_source(Op::constant, type, {{"value", value}});
}

Value GraphEditor::iota(int64_t axis, const Type& type) {
  return add_source(Op::iota, type, {{"axis", axis}});
}

Value GraphEditor::add_source(Op op, const Type& type, Attrs attrs, std::string where) {
  WEIR_CHECK(info(op).op_class == OpClass::Source, "{} is no source", op_name(op));
  check_attributes(op, attrs);
  check_source(op, type, attrs);
  Node node{op, std::move(attrs), {}, {type}, nullptr, std::move(where)};
  return append(std::move(node))[0];
}

std::vector<Value> GraphEditor::add_node(Op op, std::vector<Value> inputs, Attrs attrs,
                                         std::string where) {
  check_attributes(op, attrs);
  // One form, so that equal nodes are equal.
  if (attrs.has(kNormalizer)) set_normalizer(attrs, normalizer_of(attrs));
  std::vector<Type> types;
  for (Value input : inputs) types.push_back(graph_->type(input));
  std::vector<Type> results = infer_types(op, types, attrs);
  return append(
      {op, std::move(attrs), std::move(inputs), std::move(results), nullptr, std::move(where)});
}

Value GraphEditor::add(Op op, std::vector<Value> inputs, Attrs attrs, std::string where) {
  std::vector<Value> results = add_node(op, std::move(inputs), std::move(attrs), std::move(where));
  WEIR_CHECK(results.size() == 1, "{} has {} results", op_name(op), results.size());
  return results[0];
}

std::vector<Value> GraphEditor::add_kernel(std::vector<Value> inputs, Attrs attrs, GraphPtr region,
                                           std::string where) {
  check_attributes(Op::kernel, attrs);
  if (region->inputs().size() != inputs.size())
    user_error("kernel", "the region has {} inputs, but {} operands are given.",
               region->inputs().size(), inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Type& wanted = region->node(region->inputs()[i]).types[0];
    if (wanted != type(inputs[i]))
      user_error("kernel", "operand {} is {}, but the region's input {} is {}.", i,
                 to_string(type(inputs[i])), region->input_name(region->inputs()[i]),
                 to_string(wanted));
  }
  std::vector<Type> results;
  for (const Output& output : region->outputs()) results.push_back(region->type(output.value));
  return append({Op::kernel, std::move(attrs), std::move(inputs), std::move(results),
                 std::move(region), std::move(where)});
}

std::vector<Value> GraphEditor::append(Node node) {
  auto results_of = [&](int32_t id) {
    std::vector<Value> results;
    for (size_t i = 0; i < graph_->nodes_[id].types.size(); ++i)
      results.push_back({id, static_cast<int32_t>(i)});
    return results;
  };
  std::string key;
  if (is_internable(node)) {
    key = intern_key(node);
    auto found = interned_.find(key);
    if (found != interned_.end()) return results_of(found->second);
  }
  int32_t id = graph_->size();
  for (Value input : node.inputs)
    WEIR_CHECK(input.valid() && input.node < id &&
                   input.result < static_cast<int32_t>(graph_->nodes_[input.node].types.size()),
               "operand {}.{} of node {}", input.node, input.result, id);
  if (node.op == Op::input) {
    graph_->inputs_.push_back(id);
    graph_->input_of_.emplace(node.attrs.get_string("name"), Value{id, 0});
  }
  graph_->nodes_.push_back(std::move(node));
  if (!key.empty()) interned_.emplace(std::move(key), id);
  return results_of(id);
}

void GraphEditor::name(Value value, const std::string& name) {
  auto [position, inserted] = graph_->names_.emplace(name, value);
  if (!inserted && position->second != value)
    user_error("name", "{} names another value already. Names of values are unique.", name);
}

void GraphEditor::output(const std::string& name, Value value) {
  if (!name.empty() && graph_->find_output(name))
    user_error("graph", "an output named {} exists already. Give each output a name of its own.",
               name);
  graph_->outputs_.push_back({name, value});
  graph_->output_of_.emplace(name, value);
}

void GraphEditor::annotate(int32_t node, const std::string& name, AttrValue value) {
  graph_->nodes_[node].attrs.set(name, std::move(value));
}

GraphPtr GraphEditor::finish() {
  interned_.clear();
  GraphPtr result = std::move(graph_);
  graph_ = std::make_shared<Graph>();
  return result;
}

Rewriter::Rewriter(const Graph& old)
    : GraphEditor(old.name(), old.stage()), old_(old), map_(old.nodes().size()) {
  for (const auto& [name, value] : old.attrs().entries()) set_attribute(name, value);
  for (int32_t id : old.inputs()) copy(id);
}

Value Rewriter::operator[](Value old_value) const {
  WEIR_CHECK(old_value.valid() && !map_[old_value.node].empty(), "node {} is not mapped yet",
             old_value.node);
  return map_[old_value.node][old_value.result];
}

std::vector<Value> Rewriter::operator[](const std::vector<Value>& old_values) const {
  std::vector<Value> values;
  for (Value value : old_values) values.push_back((*this)[value]);
  return values;
}

std::vector<Value> Rewriter::copy(int32_t old_node) {
  const Node& node = old_.node(old_node);
  std::vector<Value> results;
  if (info(node.op).op_class == OpClass::Source)
    results = {add_source(node.op, node.types[0], node.attrs, node.where)};
  else if (node.op == Op::kernel)
    results = add_kernel((*this)[node.inputs], node.attrs, node.region, node.where);
  else
    results = add_node(node.op, (*this)[node.inputs], node.attrs, node.where);
  replace(old_node, results);
  return results;
}

void Rewriter::replace(int32_t old_node, const std::vector<Value>& results) {
  WEIR_CHECK(results.size() == old_.node(old_node).types.size(), "{} results for node {}",
             results.size(), old_node);
  map_[old_node] = results;
}

GraphPtr Rewriter::finish_copy() {
  for (const Output& out : old_.outputs()) output(out.name, (*this)[out.value]);
  for (const auto& [text, value] : old_.names()) name((*this)[value], text);
  return finish();
}

GraphPtr rewrite(const GraphPtr& graph, const RewriteRule& rule) {
  Rewriter rewriter(*graph);
  for (int32_t id = 0; id < graph->size(); ++id) {
    if (graph->node(id).op == Op::input) continue;
    if (auto replacement = rule(rewriter, id))
      rewriter.replace(id, *replacement);
    else
      rewriter.copy(id);
  }
  GraphPtr result = rewriter.finish_copy();
  return *result == *graph ? graph : result;
}

std::vector<Value> inline_graph(GraphEditor& editor, const Graph& graph,
                                const std::vector<Value>& inputs) {
  std::vector<std::vector<Value>> map(graph.nodes().size());
  for (size_t i = 0; i < graph.inputs().size(); ++i) map[graph.inputs()[i]] = {inputs.at(i)};
  for (int32_t id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (node.op == Op::input) continue;
    std::vector<Value> operands;
    for (Value input : node.inputs) operands.push_back(map[input.node][input.result]);
    if (info(node.op).op_class == OpClass::Source)
      map[id] = {editor.add_source(node.op, node.types[0], node.attrs, node.where)};
    else if (node.op == Op::kernel)
      map[id] = editor.add_kernel(operands, node.attrs, node.region, node.where);
    else
      map[id] = editor.add_node(node.op, operands, node.attrs, node.where);
  }
  std::vector<Value> outputs;
  for (const Output& output : graph.outputs())
    outputs.push_back(map[output.value.node][output.value.result]);
  return outputs;
}

GraphPtr live_graph(const GraphPtr& graph, bool keep_named) {
  std::vector<bool> live(graph->nodes().size());
  for (const Output& output : graph->outputs()) live[output.value.node] = true;
  if (keep_named)
    for (const auto& [name, value] : graph->names()) live[value.node] = true;
  for (int32_t id = graph->size() - 1; id >= 0; --id) {
    const Node& node = graph->node(id);
    if (node.op == Op::input || info(node.op).has(op_trait::Effect)) live[id] = true;
    if (!live[id]) continue;
    for (Value input : node.inputs) live[input.node] = true;
  }
  if (std::find(live.begin(), live.end(), false) == live.end()) return graph;
  Rewriter rewriter(*graph);
  for (int32_t id = 0; id < graph->size(); ++id)
    if (live[id] && graph->node(id).op != Op::input) rewriter.copy(id);
  for (const Output& out : graph->outputs()) rewriter.output(out.name, rewriter[out.value]);
  for (const auto& [text, value] : graph->names())
    if (live[value.node]) rewriter.name(rewriter[value], text);
  return rewriter.finish();
}

GraphPtr with_stage(const GraphPtr& graph, Stage stage) {
  if (graph->stage() == stage) return graph;
  Rewriter rewriter(*graph);
  for (int32_t id = 0; id < graph->size(); ++id)
    if (graph->node(id).op != Op::input) rewriter.copy(id);
  rewriter.set_stage(stage);
  return rewriter.finish_copy();
}

}  // namespace weir
