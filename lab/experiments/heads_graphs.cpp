#include "lab/experiments/heads_graphs.h"

#include <fmt/format.h>

#include <map>

#include "ir/edit.h"
#include "passes/cut.h"
#include "passes/op_builder.h"
#include "passes/sequence_loss.h"
#include "support/error.h"

namespace weir {
namespace {

// The output of a layer's projection: before the norm of a branch that has one behind it.
std::string projection_name(const Graph& graph, int64_t layer) {
  const std::string hooks = fmt::format("blocks.{}.", layer);
  const std::string inside = hooks + "ln1_post.hook_in";
  return graph.find(inside) ? inside : hooks + "hook_attn_out";
}

// The state of one axis that a projection adds to its product; nothing if it has none.
std::optional<Value> bias_of(const Graph& graph, Value output) {
  const auto source = [&](Value value) {
    while (graph.node(value).op == Op::reshape || graph.node(value).op == Op::broadcast)
      value = graph.node(value).inputs[0];
    return value;
  };
  const Value sum = source(output);
  if (graph.node(sum).op != Op::add) return std::nullopt;
  for (Value operand : graph.node(sum).inputs) {
    const Value from = source(operand);
    if (graph.node(from).op == Op::input && graph.type(from).rank() == 1) return from;
  }
  return std::nullopt;
}

void check_hooks(const Graph& graph, int64_t layers) {
  Problems problems("heads");
  for (int64_t layer = 0; layer < layers; ++layer) {
    const HeadsNames names(layer);
    for (const std::string& name : {fmt::format("blocks.{}.hook_resid_pre", layer), names.masked,
                                    names.result, names.pattern, projection_name(graph, layer)})
      if (!graph.find(name))
        problems.add(
            fmt::format("the model has no value named {}, which is needed of every layer. "
                        "Name it in the model.",
                        name));
  }
  problems.raise();
}

GraphPtr with_masks(const GraphPtr& graph, int64_t layers) {
  Rewriter to(*graph);
  const OpBuilder e(to, "heads");
  std::map<int32_t, HeadsNames> layer_of;
  std::map<int32_t, std::pair<Value, Value>> masks;
  for (int64_t layer = 0; layer < layers; ++layer) {
    const HeadsNames names(layer);
    const Value z = expect(graph->find(names.masked));
    const Shape shape = graph->type(z).shape;
    masks[z.node] = {to.input(names.keep, f32({1, 1, shape[2], 1})),
                     to.input(names.fill, f32({1, 1, shape[2], shape[3]}))};
    layer_of.emplace(z.node, names);
  }
  for (int32_t id = 0; id < graph->size(); ++id) {
    if (graph->node(id).op == Op::input) continue;
    std::vector<Value> results = to.copy(id);
    const auto mask = masks.find(id);
    if (mask == masks.end()) continue;
    const HeadsNames& names = layer_of.at(id);
    const auto at = static_cast<size_t>(expect(graph->find(names.masked)).result);
    to.name(results[at], names.z);
    results[at] = e.add(e.mul(results[at], mask->second.first), mask->second.second);
    to.replace(id, results);
  }
  for (int64_t layer = 0; layer < layers; ++layer) {
    const HeadsNames names(layer);
    const Value output = expect(graph->find(projection_name(*graph, layer)));
    to.name(to[expect(graph->find(fmt::format("blocks.{}.hook_resid_pre", layer)))], names.stream);
    to.name(to[output], names.output);
    if (const auto bias = bias_of(*graph, output)) to.name(to[*bias], names.bias);
  }
  return to.finish_copy();
}

}  // namespace

HeadsNames::HeadsNames(int64_t layer) {
  const std::string own = fmt::format("heads.{}.", layer);
  const std::string hooks = fmt::format("blocks.{}.attn.", layer);
  stream = own + "stream", z = own + "z", bias = own + "bias", output = own + "output";
  keep = own + "keep", fill = own + "fill";
  masked = hooks + "hook_z", result = hooks + "hook_result", pattern = hooks + "hook_pattern";
  gate = hooks + "hook_gate";
}

GraphPtr heads_model(const ModelSource& source, const CompileOptions& options, int64_t rows,
                     int64_t length, std::vector<AddedState>* added) {
  const Model model = source.build(rows, length);
  check_model(model, rows, length);
  // Not by the pipeline, which makes one node of the loss and the product before it.
  const GraphPtr graph = apply_rewrites(model.graph, options.rewrites);
  if (added) *added = added_states(*model.graph, *graph);
  check_hooks(*graph, source.sizes.layers);
  return with_sequence_loss(with_masks(graph, source.sizes.layers));
}

SetProgram heads_base(const GraphPtr& model, int64_t layers) {
  SetProgram program{model, {kSequenceLoss}};
  for (int64_t layer = 0; layer < layers; ++layer) {
    program.probes.push_back(HeadsNames(layer).stream);
    program.probes.push_back(HeadsNames(layer).z);
  }
  return program;
}

SetProgram heads_gradient(const GraphPtr& model, int64_t layers) {
  SetProgram program{model, {}, true};
  for (int64_t layer = 0; layer < layers; ++layer)
    program.probes.push_back(HeadsNames(layer).masked + ".grad");
  return program;
}

SetProgram heads_layer(const GraphPtr& model, int64_t layer) {
  const HeadsNames names(layer);
  const GraphPtr alone = cut(model, {{expect(model->find(names.stream)), "heads.stream"}});
  SetProgram program{alone, {names.pattern, names.result, names.output}};
  for (const std::string& name : {names.bias, names.gate})
    if (model->find(name)) program.probes.push_back(name);
  return program;
}

SetProgram heads_suffix(const GraphPtr& model, int64_t layer) {
  const HeadsNames names(layer);
  return {cut(model, {{expect(model->find(names.stream)), "heads.stream"},
                      {expect(model->find(names.z)), "heads.z"}}),
          {kSequenceLoss}};
}

}  // namespace weir
