#include "passes/value_gate.h"

#include <fmt/format.h>

#include <map>

#include "ir/hook_name.h"
#include "passes/attention_layers.h"
#include "passes/op_builder.h"
#include "passes/projection.h"
#include "support/text.h"

namespace weir {
namespace {

class Gates {
 public:
  Gates(const GraphPtr& graph, const ValueGateOptions& options) : graph_(*graph) {
    need_built_attention(graph_, {"value_gate", "value_gate at none"});
    Problems problems("value_gate");
    chosen_ = chosen_attention(graph_, options.layers, problems);
    problems.raise();
    for (const auto& [node, layer] : chosen_) layer_of_.emplace(operand(node), layer);
  }

  GraphPtr run() {
    Rewriter rewriter(graph_);
    std::map<Value, Value> weights, gated;
    for (const auto& [v, layer] : layer_of_) {
      const Type& type = graph_.type(v);
      const int64_t heads = type.shape[2], width = heads * type.shape[3];
      weights[v] = rewriter.input(weight_name(v, layer), {type.dtype, {heads, width}}, true);
    }
    for (int32_t id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_.node(id);
      if (node.op == Op::input) continue;
      if (!chosen_.contains(id)) {
        rewriter.copy(id);
        continue;
      }
      std::vector<Value> inputs = rewriter[node.inputs];
      Value& v = gated[operand(id)];
      if (!v.valid()) v = gate(rewriter, operand(id), inputs[2], weights.at(operand(id)));
      inputs[2] = v;
      rewriter.replace(id, rewriter.add_node(Op::attention, inputs, node.attrs, node.where));
    }
    return rewriter.finish_copy();
  }

 private:
  Value operand(int32_t attention) const { return graph_.node(attention).inputs[2]; }

  std::string weight_name(Value v, int64_t layer) const {
    return state_prefix(find_projection(graph_, v, {Op::v_scale}), layer) + "value_gate.weight";
  }

  // v[B,T,G,d] times sigmoid of its G numbers a token.
  Value gate(Rewriter& rewriter, Value old, Value v, Value weight) const {
    OpBuilder e(rewriter, fmt::format("value_gate.{}", layer_of_.at(old)));
    const Shape shape = e.shape(v);
    const Value flat = e.reshape(v, {shape[0], shape[1], shape[2] * shape[3]});
    const Value logits = e.matmul(flat, weight, false, true);
    const Value gates = e.sigmoid(e.reshape(logits, {shape[0], shape[1], shape[2], 1}));
    const Value gated = e.mul(v, gates);
    if (auto found = names_.find(old); found != names_.end())
      for (const std::string& name : found->second)
        if (const auto gate = value_hook(name, "gate"), product = value_hook(name, "gated");
            gate && product) {
          rewriter.name(gates, *gate);
          rewriter.name(gated, *product);
          break;
        }
    return gated;
  }

  const Graph& graph_;
  const std::map<Value, std::vector<std::string>> names_ = graph_.names_by_value();
  std::map<int32_t, int64_t> chosen_;  ///< attention nodes and their layers
  std::map<Value, int64_t> layer_of_;  ///< the first layer of a value operand
};

}  // namespace

const std::vector<ValueGate>& value_gates() {
  static const std::vector<ValueGate> all = {ValueGate::none, ValueGate::head};
  return all;
}

const char* value_gate_name(ValueGate variant) {
  switch (variant) {
    case ValueGate::none:
      return "none";
    case ValueGate::head:
      return "head";
  }
  internal_error_at("unknown value gate");
}

ValueGate parse_value_gate(const std::string& text) {
  std::vector<std::string> known;
  for (ValueGate variant : value_gates()) {
    known.emplace_back(value_gate_name(variant));
    if (text == known.back()) return variant;
  }
  user_error("value_gate", "unknown variant '{}'.{} The variants are {}.", text,
             did_you_mean(text, known), join(known, ", "));
}

GraphPtr apply_value_gate(const GraphPtr& graph, const ValueGateOptions& options) {
  if (options.variant == ValueGate::none) return graph;
  return Gates(graph, options).run();
}

}  // namespace weir
