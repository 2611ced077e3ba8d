#include "passes/attention_normalizer.h"

#include <algorithm>
#include <map>

#include "ir/alias.h"
#include "ir/edit.h"
#include "ir/score_transform.h"
#include "passes/op_builder.h"
#include "passes/projection.h"
#include "support/error.h"

namespace weir {
namespace {

bool are_rows_of_attention(const Graph& graph, Value value) {
  while (graph.node(value).op == Op::identity || graph.node(value).op == Op::stop_gradient)
    value = graph.node(value).inputs[0];
  return graph.node(value).op == Op::attention && value.result == 1;
}

// An attention of another normaliser than before: the learned weights that it brings, and how the
// node is made.
class OtherKey {
 public:
  OtherKey(Rewriter& rewriter, const Node& attention, int64_t layer, AttentionNormalizer normalizer)
      : rewriter_(rewriter), attention_(attention), normalizer_(normalizer) {
    const Graph& graph = rewriter.old();
    const Projection projection =
        find_projection(graph, attention.inputs[2], {Op::v_scale, Op::mul, Op::straight_through});
    const std::string prefix = state_prefix(projection, layer);
    const Type &q = graph.type(attention.inputs[0]), &v = graph.type(attention.inputs[2]);
    if (normalizer == AttentionNormalizer::sink_logit) {
      sinks_ = rewriter.input(prefix + "sinks", {q.dtype, {q.shape[2]}}, true);
      return;
    }
    const Type of_key{v.dtype, {v.shape[2], v.shape[3]}};
    key_ = rewriter.input(prefix + "kv_bias.key", of_key, true);
    value_ = rewriter.input(prefix + "kv_bias.value", of_key, true);
  }

  std::vector<Value> attention(const Attrs& attrs) const {
    const OpBuilder e(rewriter_, attention_.where);
    std::vector<Value> in = rewriter_[attention_.inputs];
    const Shape q = e.shape(in[0]);
    if (normalizer_ == AttentionNormalizer::sink_logit) {
      Value by_head = e.reshape(sinks_, {1, q[2], 1});
      in.push_back(e.op(Op::broadcast, {by_head}, {{"shape", Shape{q[0], q[2], q[1]}}}));
      return rewriter_.add_node(Op::attention, in, attrs, attention_.where);
    }
    in.push_back(score(e, in[0], score_transform(attrs)));
    in[2] = e.sub(in[2], e.reshape(value_, of_group(1)));
    std::vector<Value> results = rewriter_.add_node(Op::attention, in, attrs, attention_.where);
    Value by_group = e.reshape(results[0], grouped(q));
    by_group = e.add(by_group, e.reshape(value_, of_group(2)));
    return {e.reshape(by_group, q), results[1]};
  }

 private:
  // [B,T,H,d] as [B,T,G,H/G,d].
  Shape grouped(const Shape& q) const {
    const int64_t groups = rewriter_.type(value_).shape[0];
    return {q[0], q[1], groups, q[2] / groups, q[3]};
  }
  // [G,d] as [1,1,G,d] or [1,1,G,1,d].
  Shape of_group(int heads) const {
    const Shape& shape = rewriter_.type(value_).shape;
    return heads == 1 ? Shape{1, 1, shape[0], shape[1]} : Shape{1, 1, shape[0], 1, shape[1]};
  }
  // Of the learned key, [B,H,T].
  Value score(const OpBuilder& e, Value q, const ScoreTransform& transform) const {
    const Shape shape = e.shape(q);
    Value products = e.mul(e.reshape(q, grouped(shape)), e.reshape(key_, of_group(2)));
    Value scores = e.mul(e.sum_last(products), transform.scale);
    if (transform.cap != 0) scores = e.mul(e.tanh(e.mul(scores, 1 / transform.cap)), transform.cap);
    return e.transpose(e.reshape(scores, {shape[0], shape[1], shape[2]}), {0, 2, 1});
  }

  Rewriter& rewriter_;
  const Node& attention_;
  AttentionNormalizer normalizer_;
  Value sinks_, key_, value_;
};

// The gate across heads of an attention (attention_head_gate).
class HeadGate {
 public:
  HeadGate(Rewriter& rewriter, const Node& attention, int64_t layer)
      : rewriter_(rewriter), attention_(attention) {
    const Graph& graph = rewriter.old();
    const Projection projection =
        find_projection(graph, attention.inputs[2], {Op::v_scale, Op::mul, Op::straight_through});
    const Type& q = graph.type(attention.inputs[0]);
    bias_ = rewriter.input(state_prefix(projection, layer) + "bayes_softmax.bias",
                           {q.dtype, {q.shape[2]}}, true);
  }

  // The attention's results with its gate, which is called `hook` unless that is empty.
  std::vector<Value> attention(const Attrs& attrs, const std::string& hook) const {
    const OpBuilder e(rewriter_, attention_.where);
    std::vector<Value> in = rewriter_[attention_.inputs];
    const std::vector<Value> results =
        rewriter_.add_node(Op::attention, std::move(in), attrs, attention_.where);
    Attrs of_gate = {{"scale", attrs.get_float("scale")}};
    if (attrs.has("cap")) of_gate.set("cap", attrs.get_float("cap"));
    const Value gate = e.op(Op::attention_head_gate, {results[1], bias_}, of_gate);
    const Shape shape = e.shape(gate);  // [B,T,H]
    const Value by_output = e.reshape(gate, {shape[0], shape[1], shape[2], 1});
    if (!hook.empty()) rewriter_.name(by_output, hook);
    const Value by_row = e.reshape(e.transpose(gate, {0, 2, 1}), {shape[0], shape[2], 1, shape[1]});
    return {e.mul(results[0], by_output), e.concat({results[1], by_row}, 2)};
  }

 private:
  Rewriter& rewriter_;
  const Node& attention_;
  Value bias_;
};

bool has_head_gate(const Graph& graph) {
  return std::any_of(graph.nodes().begin(), graph.nodes().end(),
                     [](const Node& node) { return node.op == Op::attention_head_gate; });
}

// "blocks.0.attn.hook_head_gate", by the name of the output or of what reads the rows; "" if
// neither has a name that says where hooks of this attention are.
std::string head_gate_hook(const Graph& graph, int32_t attention) {
  for (const auto& [name, value] : graph.names()) {
    const Value named = through_identity(graph, value);
    const std::vector<Value>& read = graph.node(named).inputs;
    const bool reads_rows = info(graph.node(named).op).find_attribute(kNormalizer) &&
                            std::any_of(read.begin(), read.end(), [&](Value input) {
                              return through_identity(graph, input) == Value{attention, 1};
                            });
    if (named != Value{attention, 0} && !reads_rows) continue;
    if (const size_t at = name.rfind("hook_"); at != std::string::npos)
      return name.substr(0, at) + "hook_head_gate";
  }
  return "";
}

void check(const Graph& graph, AttentionNormalizer normalizer) {
  if (graph.stage() != Stage::built)
    user_error("attention",
               "graph {} is {} already; a normaliser has a gradient, so it is applied to built "
               "graphs only.",
               graph.name(), stage_name(graph.stage()));
  bool found = false;
  for (const Node& node : graph.nodes()) {
    if (node.op != Op::attention) continue;
    found = true;
    const AttentionNormalizer now = normalizer_of(node.attrs);
    if (takes_other_score(now) && now != normalizer)
      user_error("attention",
                 "graph {} has the normaliser {} already, with weights of its own. Build it "
                 "without them to have {} instead.",
                 graph.name(), normalizer_name(now), normalizer_name(normalizer));
  }
  if (has_head_gate(graph) && !is_across_heads(normalizer))
    user_error("attention",
               "graph {} has the normaliser {} already, with weights of its own. Build it "
               "without them to have {} instead.",
               graph.name(), normalizer_name(AttentionNormalizer::bayes_softmax),
               normalizer_name(normalizer));
  if (!found)
    user_error("attention",
               "graph {} has no attention node, so it has no normaliser to replace by {}. Use it "
               "on a model with attention, or leave attention at softmax.",
               graph.name(), normalizer_name(normalizer));
}

}  // namespace

GraphPtr apply_attention_normalizer(const GraphPtr& graph, AttentionNormalizer normalizer) {
  check(*graph, normalizer);
  if (has_head_gate(*graph)) return graph;
  Rewriter rewriter(*graph);
  // By attention; their states come before all nodes.
  std::map<int32_t, OtherKey> other_keys;
  std::map<int32_t, HeadGate> gates;
  int64_t layer = 0;
  for (int32_t id = 0; id < graph->size(); ++id) {
    const Node& node = graph->node(id);
    if (node.op != Op::attention) continue;
    if (takes_other_score(normalizer) && normalizer_of(node.attrs) != normalizer)
      other_keys.emplace(id, OtherKey(rewriter, node, layer, normalizer));
    if (is_across_heads(normalizer)) gates.emplace(id, HeadGate(rewriter, node, layer));
    ++layer;
  }
  const auto replacement = [&](int32_t id) -> std::optional<std::vector<Value>> {
    const Node& node = graph->node(id);
    bool reads_weights = info(node.op).find_attribute(kNormalizer) &&
                         std::any_of(node.inputs.begin(), node.inputs.end(), [&](Value input) {
                           return are_rows_of_attention(*graph, input);
                         });
    if (node.op != Op::attention && !reads_weights) return std::nullopt;
    Attrs attrs = node.attrs;
    if (const auto gate = gates.find(id); gate != gates.end()) {
      set_normalizer(attrs, AttentionNormalizer::softmax);
      return gate->second.attention(attrs, head_gate_hook(*graph, id));
    }
    set_normalizer(attrs, normalizer);
    if (attrs == node.attrs) return std::nullopt;
    if (const auto key = other_keys.find(id); key != other_keys.end())
      return key->second.attention(attrs);
    return rewriter.add_node(node.op, rewriter[node.inputs], attrs, node.where);
  };
  for (int32_t id = 0; id < graph->size(); ++id) {
    if (graph->node(id).op == Op::input) continue;
    if (auto values = replacement(id))
      rewriter.replace(id, *values);
    else
      rewriter.copy(id);
  }
  GraphPtr result = rewriter.finish_copy();
  return *result == *graph ? graph : result;
}

}  // namespace weir
