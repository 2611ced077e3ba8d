#include "passes/attention_gate.h"

#include <algorithm>
#include <map>

#include "ir/edit.h"
#include "passes/op_builder.h"
#include "passes/projection.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

// The gate of one attention: its weight, and what it reads in the old graph.
struct Gate {
  Value weight, reads;
};

Gate add_gate(Rewriter& rewriter, const Node& attention, int64_t layer, AttentionGate gate) {
  const Graph& graph = rewriter.old();
  const Projection projection =
      find_projection(graph, attention.inputs[2], {Op::v_scale, Op::sub, Op::mul});
  if (!projection.input.valid())
    user_error("attention_gate",
               "no product makes the values of attention layer {} of graph {}, so that there is "
               "nothing that a gate could read. Leave attention_gate at none, or multiply the "
               "output of the attention in the model itself.",
               layer, graph.name());
  const Type& q = graph.type(attention.inputs[0]);
  const int64_t gates = gate == AttentionGate::head ? q.shape[2] : q.shape[2] * q.shape[3];
  const Type type{q.dtype, {gates, projection.d_model}};
  const std::string name = state_prefix(projection, layer) + "output_gate.weight";
  return {rewriter.input(name, type, true), projection.input};
}

// Multiplies the output of an attention; `names` are its own.
Value gated(Rewriter& rewriter, const Gate& gate, Value out, const std::vector<std::string>& names,
            const SharedText& where) {
  const OpBuilder e(rewriter, where);
  const Shape shape = e.shape(out);
  const int64_t width = e.shape(gate.weight)[0] / shape[2];
  Value logits = e.matmul(rewriter[gate.reads], gate.weight, false, true);
  Value gates = e.sigmoid(e.reshape(logits, {shape[0], shape[1], shape[2], width}));
  constexpr std::string_view output_hook = "hook_z";
  for (const std::string& name : names)
    if (name.ends_with(output_hook))
      rewriter.name(gates, name.substr(0, name.size() - output_hook.size()) + "hook_gate");
  return e.mul(out, gates);
}

}  // namespace

const std::vector<AttentionGate>& attention_gates() {
  static const std::vector<AttentionGate> all = {AttentionGate::none, AttentionGate::head,
                                                 AttentionGate::element};
  return all;
}

const char* attention_gate_name(AttentionGate gate) {
  switch (gate) {
    case AttentionGate::none:
      return "none";
    case AttentionGate::head:
      return "head";
    case AttentionGate::element:
      return "element";
  }
  internal_error_at("unknown gate");
}

AttentionGate parse_attention_gate(const std::string& text) {
  std::vector<std::string> known;
  for (AttentionGate gate : attention_gates()) {
    if (text == attention_gate_name(gate)) return gate;
    known.emplace_back(attention_gate_name(gate));
  }
  user_error("attention_gate", "unknown gate '{}'.{} The gates are {}.", text,
             did_you_mean(text, known), join(known, ", "));
}

GraphPtr apply_attention_gate(const GraphPtr& graph, AttentionGate gate) {
  if (gate == AttentionGate::none) return graph;
  if (graph->stage() != Stage::built)
    user_error("attention_gate",
               "graph {} is {} already; a gate has a gradient, so it is applied to built graphs "
               "only.",
               graph->name(), stage_name(graph->stage()));
  Rewriter rewriter(*graph);
  std::map<int32_t, Gate> gates;  // by attention; their weights come before all nodes
  for (int32_t id = 0; id < graph->size(); ++id)
    if (const Node& node = graph->node(id); node.op == Op::attention)
      gates.emplace(id, add_gate(rewriter, node, static_cast<int64_t>(gates.size()), gate));
  if (gates.empty())
    user_error("attention_gate",
               "graph {} has no attention node whose output could be gated. Use it on a model "
               "with attention, or leave attention_gate at none.",
               graph->name());
  const auto names = graph->names_by_value();
  for (int32_t id = 0; id < graph->size(); ++id) {
    const Node& node = graph->node(id);
    if (node.op == Op::input) continue;
    const auto found = gates.find(id);
    if (found == gates.end()) {
      rewriter.copy(id);
      continue;
    }
    std::vector<Value> results =
        rewriter.add_node(node.op, rewriter[node.inputs], node.attrs, node.where);
    const auto of_output = names.find(Value{id, 0});
    results[0] = gated(rewriter, found->second, results[0],
                       of_output == names.end() ? std::vector<std::string>{} : of_output->second,
                       node.where);
    rewriter.replace(id, results);
  }
  return rewriter.finish_copy();
}

}  // namespace weir
