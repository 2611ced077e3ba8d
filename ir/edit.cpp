#include "ir/edit.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <utility>

#include "ir/infer.h"
#include "ir/normalizer.h"
#include "ir/print.h"
#include "support/error.h"

namespace weir {
namespace {

// Gathers what identifies a node into one number. Each list goes with its length.
class NodeHash {
 public:
  size_t value() const { return hash_; }

  void number(uint64_t value) {
    hash_ = (hash_ ^ value) * 0x9e3779b97f4a7c15;
    hash_ ^= hash_ >> 32;
  }
  void text(const std::string& text) { number(std::hash<std::string>()(text)); }
  void attribute(const AttrValue& value) {
    number(value.index());
    std::visit(*this, value);
  }
  void operator()(int64_t value) { number(static_cast<uint64_t>(value)); }
  void operator()(double value) {
    number(std::bit_cast<uint64_t>(std::isnan(value) ? std::nan("") : value));
  }
  void operator()(bool value) { number(value); }
  void operator()(DType value) { number(static_cast<uint64_t>(value)); }
  void operator()(const std::string& value) { text(value); }
  void operator()(const std::vector<int64_t>& values) {
    number(values.size());
    for (int64_t value : values) (*this)(value);
  }

 private:
  uint64_t hash_ = 0;
};

size_t hash_of(const Node& node) {
  NodeHash hash;
  hash.number(static_cast<uint64_t>(node.op));
  hash.number(node.inputs.size());
  for (Value input : node.inputs) {
    hash(static_cast<int64_t>(input.node));
    hash(static_cast<int64_t>(input.result));
  }
  for (const Type& type : node.types) {
    hash(type.dtype);
    hash(type.shape);
  }
  for (const auto& [name, value] : node.attrs.entries()) {
    hash.text(name);
    hash.attribute(value);
  }
  return hash.value();
}

// Two pure nodes of which this holds compute the same values.
bool same_computation(const Node& a, const Node& b) {
  return a.op == b.op && a.inputs == b.inputs && a.types == b.types && a.attrs == b.attrs;
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

Value GraphEditor::add_source(Op op, const Type& type, Attrs attrs, SharedText where) {
  WEIR_CHECK(info(op).op_class == OpClass::Source, "{} is no source", op_name(op));
  check_attributes(op, attrs);
  check_source(op, type, attrs);
  Node node{op, std::move(attrs), {}, {type}, nullptr, std::move(where)};
  return append(std::move(node))[0];
}

std::vector<Value> GraphEditor::add_node(Op op, std::vector<Value> inputs, Attrs attrs,
                                         SharedText where) {
  check_attributes(op, attrs);
  // One form, so that equal nodes are equal.
  if (attrs.has(kNormalizer)) set_normalizer(attrs, normalizer_of(attrs));
  std::vector<const Type*> types;
  types.reserve(inputs.size());
  for (Value input : inputs) types.push_back(&graph_->type(input));
  std::vector<Type> results = infer_types(op, types, attrs);
  return append(
      {op, std::move(attrs), std::move(inputs), std::move(results), nullptr, std::move(where)});
}

Value GraphEditor::add(Op op, std::vector<Value> inputs, Attrs attrs, SharedText where) {
  std::vector<Value> results = add_node(op, std::move(inputs), std::move(attrs), std::move(where));
  WEIR_CHECK(results.size() == 1, "{} has {} results", op_name(op), results.size());
  return results[0];
}

std::vector<Value> GraphEditor::add_kernel(std::vector<Value> inputs, Attrs attrs, GraphPtr region,
                                           SharedText where) {
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

std::vector<Value> GraphEditor::add_like(const Graph& from, int32_t id, std::vector<Value> inputs) {
  const Node& node = from.node(id);
  bool same_types = inputs.size() == node.inputs.size();
  for (size_t i = 0; same_types && i < inputs.size(); ++i)
    same_types = type(inputs[i]) == from.type(node.inputs[i]);
  if (same_types)
    return append({node.op, node.attrs, std::move(inputs), node.types, node.region, node.where});
  if (node.op == Op::kernel)
    return add_kernel(std::move(inputs), node.attrs, node.region, node.where);
  return add_node(node.op, std::move(inputs), node.attrs, node.where);
}

int32_t GraphEditor::Interned::find(const Graph& graph, const Node& node, size_t hash) const {
  if (slots_.empty()) return -1;
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask; slots_[i].id >= 0; i = (i + 1) & mask)
    if (slots_[i].hash == hash && same_computation(graph.node(slots_[i].id), node))
      return slots_[i].id;
  return -1;
}

void GraphEditor::Interned::insert(size_t hash, int32_t id) {
  // At most half of the slots are used, so that a search is short and ends.
  if (2 * (used_ + 1) > slots_.size()) {
    const std::vector<Slot> old =
        std::exchange(slots_, std::vector<Slot>(std::max<size_t>(16, 2 * slots_.size())));
    for (const Slot& slot : old)
      if (slot.id >= 0) put(slot);
  }
  put({hash, id});
  ++used_;
}

void GraphEditor::Interned::put(const Slot& slot) {
  const size_t mask = slots_.size() - 1;
  size_t i = slot.hash & mask;
  while (slots_[i].id >= 0) i = (i + 1) & mask;
  slots_[i] = slot;
}

void GraphEditor::Interned::clear() {
  slots_.clear();
  used_ = 0;
}

std::vector<Value> GraphEditor::append(Node node) {
  auto results_of = [&](int32_t id) {
    std::vector<Value> results;
    results.reserve(graph_->nodes_[id].types.size());
    for (size_t i = 0; i < graph_->nodes_[id].types.size(); ++i)
      results.push_back({id, static_cast<int32_t>(i)});
    return results;
  };
  const bool internable = is_internable(node);
  const size_t hash = internable ? hash_of(node) : 0;
  if (internable)
    if (const int32_t found = interned_.find(*graph_, node, hash); found >= 0)
      return results_of(found);
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
  if (internable) interned_.insert(hash, id);
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

Rewriter::Rewriter(const Graph& old) : GraphEditor(old.name(), old.stage()), old_(old) {
  reserve(old.nodes().size());
  first_.reserve(old.nodes().size());
  size_t results = 0;
  for (const Node& node : old.nodes()) {
    first_.push_back(static_cast<int32_t>(results));
    results += node.types.size();
  }
  map_.resize(results);
  for (const auto& [name, value] : old.attrs().entries()) set_attribute(name, value);
  for (int32_t id : old.inputs()) copy(id);
}

Value Rewriter::operator[](Value old_value) const {
  WEIR_CHECK(old_value.valid(), "no value is asked for");
  const Value value = find(old_value);
  WEIR_CHECK(value.valid(), "node {} is not mapped yet", old_value.node);
  return value;
}

std::vector<Value> Rewriter::operator[](const std::vector<Value>& old_values) const {
  std::vector<Value> values;
  values.reserve(old_values.size());
  for (Value value : old_values) values.push_back((*this)[value]);
  return values;
}

std::vector<Value> Rewriter::copy(int32_t old_node) {
  std::vector<Value> results = add_like(old_, old_node, (*this)[old_.node(old_node).inputs]);
  replace(old_node, results);
  return results;
}

void Rewriter::replace(int32_t old_node, const std::vector<Value>& results) {
  WEIR_CHECK(results.size() == old_.node(old_node).types.size(), "{} results for node {}",
             results.size(), old_node);
  std::copy(results.begin(), results.end(), map_.begin() + first_[old_node]);
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
    map[id] = editor.add_like(graph, id, std::move(operands));
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
  auto copy = std::make_shared<Graph>(*graph);
  copy->stage_ = stage;
  return copy;
}

}  // namespace weir
