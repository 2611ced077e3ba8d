#include "interpret/interpret.h"

#include <cmath>

#include "interpret/ops.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace reference {
namespace {

Results evaluate(const Call& call) {
  switch (call.node.op) {
#define OP(name, ...) \
  case Op::name:      \
    return name(call);
#include "ir/ops.def"
  }
  internal_error_at("unknown op");
}

bool has_effect(const Node& node) {
  if (info(node.op).has(op_trait::Effect)) return true;
  if (!node.region) return false;
  for (const Node& inner : node.region->nodes())
    if (has_effect(inner)) return true;
  return false;
}

// How often each value is used by `wanted` and by nodes that are needed; all zero for the others.
std::vector<std::vector<int64_t>> needed_uses(const Graph& graph, const std::vector<Value>& wanted,
                                              std::vector<bool>& needed) {
  std::vector<std::vector<int64_t>> uses;
  for (const Node& node : graph.nodes()) uses.emplace_back(node.types.size(), 0);
  needed.assign(graph.size(), false);
  for (Value value : wanted) ++uses[value.node][value.result];
  for (int32_t id = graph.size() - 1; id >= 0; --id) {
    bool used = has_effect(graph.node(id));
    for (int64_t count : uses[id]) used = used || count > 0;
    if (!used) continue;
    needed[id] = true;
    for (Value input : graph.node(id).inputs) ++uses[input.node][input.result];
  }
  return uses;
}

// bf16 and f16 are storage: a node's result is rounded when it is stored.
Shared stored(Shared value) {
  DType dtype = value->type.dtype;
  if (dtype != DType::bf16 && dtype != DType::f16) return value;
  HostTensor rounded = *value;
  for (double& element : rounded.data) element = round_to(dtype, element);
  return std::make_shared<const HostTensor>(std::move(rounded));
}

}  // namespace

std::vector<Shared> run_graph(const Graph& graph, const std::vector<Shared>& inputs,
                              const std::vector<Value>& wanted, const ProbeSink& sink) {
  std::vector<bool> needed;
  std::vector<std::vector<int64_t>> uses = needed_uses(graph, wanted, needed);
  std::vector<Results> values(graph.size());
  for (size_t i = 0; i < inputs.size(); ++i) values[graph.inputs()[i]] = {inputs[i]};
  for (int32_t id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (node.op == Op::input || !needed[id]) continue;
    std::vector<Shared> operands;
    for (Value input : node.inputs) operands.push_back(values[input.node][input.result]);
    values[id] = evaluate({node, std::move(operands), sink});
    WEIR_CHECK(values[id].size() == node.types.size(), "{} gave {} results", op_name(node.op),
               values[id].size());
    for (size_t i = 0; i < node.types.size(); ++i) {
      Shared& value = values[id][i];
      WEIR_CHECK(value->type == node.types[i] &&
                     static_cast<int64_t>(value->data.size()) == node.types[i].elements(),
                 "{} gave {} with {} elements instead of {}", op_name(node.op),
                 to_string(value->type), value->data.size(), to_string(node.types[i]));
      value = uses[id][i] ? stored(std::move(value)) : nullptr;
    }
    for (Value input : node.inputs)
      if (--uses[input.node][input.result] == 0) values[input.node][input.result].reset();
  }
  std::vector<Shared> found;
  for (Value value : wanted) found.push_back(values[value.node][value.result]);
  return found;
}

Results input(const Call& call) {
  internal_error_at("input " + call.attrs().get_string("name") + " was not given");
}

Results constant(const Call& call) {
  return results(filled(call.type(), call.attrs().get_float("value")));
}

Results iota(const Call& call) {
  HostTensor result = zeros(call.type());
  int64_t axis = call.attrs().get_int("axis");
  int64_t extent = call.type().shape[axis], stride = strides_of(call.type().shape)[axis];
  for (size_t i = 0; i < result.data.size(); ++i)
    result.data[i] = static_cast<double>(static_cast<int64_t>(i) / stride % extent);
  return results(std::move(result));
}

Results probe(const Call& call) {
  call.sink(call.attrs().get_string("id"), call.in(0));
  return {};
}

Results kernel(const Call& call) {
  std::vector<Value> outputs;
  for (const Output& output : call.node.region->outputs()) outputs.push_back(output.value);
  return run_graph(*call.node.region, call.operands, outputs, call.sink);
}

}  // namespace reference

namespace {

std::string first_bad_integer(const HostTensor& tensor) {
  auto [low, high] = integer_range(tensor.type.dtype);
  for (size_t i = 0; i < tensor.data.size(); ++i) {
    double value = tensor.data[i];
    if (value == std::trunc(value) && value >= static_cast<double>(low) &&
        value <= static_cast<double>(high))
      continue;
    return fmt::format("element {} is {}, but {} holds the integers from {} to {}.", i, value,
                       dtype_name(tensor.type.dtype), low, high);
  }
  return "";
}

void check_inputs(const Graph& graph, const Tensors& inputs) {
  Problems problems("interpret");
  std::vector<std::string> known;
  for (int32_t id : graph.inputs()) {
    const std::string& name = graph.input_name(id);
    const Type& wanted = graph.node(id).types[0];
    known.push_back(name);
    auto given = inputs.find(name);
    if (given == inputs.end()) {
      problems.add(fmt::format("input {} is missing; it is {}.", name, to_string(wanted)));
      continue;
    }
    const HostTensor& tensor = given->second;
    if (tensor.type != wanted)
      problems.add(fmt::format("input {} is {}, but {} is needed.", name, to_string(tensor.type),
                               to_string(wanted)));
    else if (static_cast<int64_t>(tensor.data.size()) != wanted.elements())
      problems.add(fmt::format("input {} has {} elements, but {} has {}.", name, tensor.data.size(),
                               to_string(wanted), wanted.elements()));
    else if (!is_float(wanted.dtype))
      if (std::string bad = first_bad_integer(tensor); !bad.empty())
        problems.add(fmt::format("input {}: {}", name, bad));
  }
  for (const auto& [name, tensor] : inputs)
    if (!graph.find_input(name))
      problems.add(fmt::format("{} is no input of graph {}; inputs: {}.{}", name, graph.name(),
                               known.empty() ? "none" : join(known, ", "),
                               did_you_mean(name, known)));
  problems.raise();
}

}  // namespace

Interpretation interpret_all(const Graph& graph, const Tensors& inputs,
                             const std::vector<std::string>& values) {
  check_inputs(graph, inputs);
  std::vector<Value> wanted;
  for (const Output& output : graph.outputs()) wanted.push_back(output.value);
  Problems problems("interpret");
  for (const std::string& name : values) {
    auto value = graph.find(name);
    std::vector<std::string> known;
    for (const auto& [other, unused] : graph.names()) known.push_back(other);
    if (!value)
      problems.add(fmt::format("graph {} has no value named {}.{}", graph.name(), name,
                               did_you_mean(name, known)));
    else
      wanted.push_back(*value);
  }
  problems.raise();

  std::vector<reference::Shared> given;
  // The caller's tensors outlive the run; nothing needs a copy of them.
  for (int32_t id : graph.inputs())
    given.emplace_back(&inputs.at(graph.input_name(id)), [](const HostTensor*) {});
  Interpretation result;
  auto sink = [&](const std::string& id, const HostTensor& value) {
    bool is_new = result.probes.emplace(id, value).second;
    WEIR_CHECK(is_new, "probe {} fired twice", id);
  };
  std::vector<reference::Shared> found = reference::run_graph(graph, given, wanted, sink);
  size_t count = graph.outputs().size();
  for (size_t i = 0; i < count; ++i) result.outputs[graph.outputs()[i].name] = *found[i];
  for (size_t i = 0; i < values.size(); ++i) result.values[values[i]] = *found[count + i];
  return result;
}

Tensors interpret(const Graph& graph, const Tensors& inputs) {
  return interpret_all(graph, inputs).outputs;
}

}  // namespace weir
