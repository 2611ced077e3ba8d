#include "passes/qk_norm.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "ir/edit.h"
#include "passes/op_builder.h"
#include "passes/projection.h"
#include "support/error.h"

namespace weir {
namespace {

// Of the first norm of a model.
double eps_of(const Graph& graph) {
  for (const Node& node : graph.nodes())
    if (node.op == Op::rms_norm || node.op == Op::layer_norm) return node.attrs.get_float("eps");
  return 1e-5;
}

bool takes_queries_and_keys(Op op) {
  constexpr std::array ops = {Op::attention, Op::attention_scores, Op::attention_pattern,
                              Op::attention_stats, Op::attention_map};
  return std::find(ops.begin(), ops.end(), op) != ops.end();
}

class QkNorm {
 public:
  explicit QkNorm(const GraphPtr& graph) : graph_(graph), rewriter_(*graph), eps_(eps_of(*graph)) {}

  GraphPtr run() {
    if (graph_->stage() != Stage::built)
      user_error("qk_norm",
                 "graph {} is {} already; a norm has a gradient, so it is applied to built graphs "
                 "only.",
                 graph_->name(), stage_name(graph_->stage()));
    int64_t layer = 0;
    for (int32_t id = 0; id < graph_->size(); ++id)
      if (const Node& node = graph_->node(id); node.op == Op::attention) find_heads(node, layer++);
    if (layer == 0)
      user_error("qk_norm",
                 "graph {} has no attention node whose queries and keys could be normalised. Use "
                 "it on a model with attention, or leave qk_norm at false.",
                 graph_->name());
    for (int32_t id = 0; id < graph_->size(); ++id) {
      const Node& node = graph_->node(id);
      if (node.op == Op::input) continue;
      if (auto results = rewritten(id, node))
        rewriter_.replace(id, *results);
      else
        rewriter_.copy(id);
    }
    return rewriter_.finish_copy();
  }

 private:
  void find_heads(const Node& attention, int64_t layer) {
    const std::string prefix = state_prefix(
        find_projection(*graph_, attention.inputs[2], {Op::v_scale, Op::sub, Op::mul}), layer);
    add_gain(attention.inputs[0], prefix + "qk_norm.query", layer);
    add_gain(attention.inputs[1], prefix + "qk_norm.key", layer);
  }

  // The gain of what an operand of an attention is made of: of what is rotated, or of itself.
  void add_gain(Value operand, const std::string& name, int64_t layer) {
    Value heads = operand;
    if (graph_->node(operand).op == Op::rope) heads = graph_->node(operand).inputs[0];
    if (graph_->node(heads).op == Op::rms_norm)
      user_error("qk_norm",
                 "queries or keys of attention layer {} of graph {} are normalised already. Leave "
                 "qk_norm at false.",
                 layer, graph_->name());
    std::map<Value, Value>& gains = heads == operand ? of_operands_ : of_rotated_;
    if (gains.contains(heads)) return;  // an attention of one array as queries and keys
    const Type& type = graph_->type(heads);
    gains[heads] = rewriter_.input(name, {type.dtype, {type.shape[3]}}, true);
  }

  std::optional<std::vector<Value>> rewritten(int32_t id, const Node& node) {
    std::vector<Value> in = rewriter_[node.inputs];
    if (node.op == Op::rope && of_rotated_.contains(node.inputs[0])) {
      in[0] = normalized(node.inputs[0], of_rotated_);
    } else if (takes_queries_and_keys(node.op)) {
      bool changed = false;
      for (size_t i = 0; i < 2; ++i)
        if (of_operands_.contains(node.inputs[i])) {
          in[i] = normalized(node.inputs[i], of_operands_);
          changed = true;
        }
      if (!changed) return std::nullopt;
    } else {
      return std::nullopt;
    }
    return rewriter_.add_node(node.op, in, node.attrs, graph_->node(id).where);
  }

  Value normalized(Value heads, const std::map<Value, Value>& gains) {
    Value result = rewriter_.add(Op::rms_norm, {rewriter_[heads], gains.at(heads)}, {{"eps", eps_}},
                                 graph_->node(heads).where);
    if (named_.insert(heads).second) name(result, heads);
    return result;
  }

  // "blocks.0.attn.hook_q" is normalised to "blocks.0.attn.q_norm.hook_normalized".
  void name(Value normed, Value heads) {
    const auto found = names_.find(heads);
    if (found == names_.end()) return;
    for (const std::string& of_heads : found->second)
      for (const char* head : {"q", "k"}) {
        const std::string hook = std::string("hook_") + head;
        if (!of_heads.ends_with("." + hook)) continue;
        const std::string prefix = of_heads.substr(0, of_heads.size() - hook.size());
        rewriter_.name(normed, prefix + head + "_norm.hook_normalized");
      }
  }

  const GraphPtr& graph_;
  Rewriter rewriter_;
  double eps_;
  const std::map<Value, std::vector<std::string>> names_ = graph_->names_by_value();
  std::set<Value> named_;
  std::map<Value, Value> of_rotated_, of_operands_;  ///< gains by what is normalised
};

}  // namespace

GraphPtr apply_qk_norm(const GraphPtr& graph) { return QkNorm(graph).run(); }

}  // namespace weir
