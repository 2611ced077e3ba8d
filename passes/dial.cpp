#include "passes/dial.h"

#include <fmt/format.h>

#include <map>

#include "ir/edit.h"
#include "passes/attention_probes.h"
#include "passes/op_builder.h"
#include "support/error.h"
#include "support/text.h"
#include "support/usage_error.h"

namespace weir {
namespace {

// Further features come in whole vectors of any target.
constexpr int64_t kFeatures = 16;

// The operands of an attention node, one key head a query head, with what the dial adds to them.
class DialledAttention {
 public:
  DialledAttention(GraphEditor& editor, const Node& node, const DialOptions& options, Value keys,
                   Value amount)
      : e_(editor, "dial"),
        options_(options),
        attrs_(node.attrs),
        scale_(node.attrs.get_float("scale")),
        count_(dial_inputs(options).keys),
        keys_(keys),
        amount_(amount) {}

  /// The results of the node with the dial, out and rows, from its operands.
  std::vector<Value> attend(std::vector<Value> operands) {
    const Value q = operands[0];
    shape_ = e_.shape(q);
    width_ = shape_[3];
    const Value keys = by_query_head(operands[1]), values = by_query_head(operands[2]);
    extra_ = options_.rewrite == DialRewrite::key_exchange ? std::max(width_, kFeatures)
                                                           : whole_features(count_);
    q_ = joined(q, query_features(q));
    k_ = joined(keys, key_features(keys));
    values_ = options_.rewrite == DialRewrite::key_value ? scaled_values(values) : values;
    operands[0] = q_;
    operands[1] = k_;
    const Value summed = options_.rewrite == DialRewrite::key_weights
                             ? e_.select(e_.eq(token(), key(0)), number(0), values_)
                             : values_;
    operands[2] = joined(summed, features_of(one_hot()));
    const std::vector<Value> results =
        e_.editor().add_node(Op::attention, std::move(operands), attrs_, "dial");
    Value out = e_.slice_axis(results[0], 3, 0, width_);
    weights_ = e_.slice_axis(results[0], 3, width_, width_ + count_);
    if (options_.rewrite == DialRewrite::key_weights) out = with_more_weight(out);
    return {out, results[1]};
  }

  Value queries() const { return q_; }
  Value keys() const { return k_; }
  Value values() const { return values_; }
  Value weights() const { return weights_; }

 private:
  static int64_t whole_features(int64_t count) {
    return (count + kFeatures - 1) / kFeatures * kFeatures;
  }

  Value by_query_head(Value x) const {
    const Shape old = e_.shape(x);
    if (old[2] == shape_[2]) return x;
    const Shape all = {old[0], old[1], old[2], shape_[2] / old[2], old[3]};
    const Value repeated = e_.op(
        Op::broadcast, {e_.reshape(x, {old[0], old[1], old[2], 1, old[3]})}, {{"shape", all}});
    return e_.reshape(repeated, {old[0], old[1], shape_[2], old[3]});
  }

  // x with further features behind its own.
  Value joined(Value x, Value features) const { return e_.concat({x, features}, 3); }

  Value number(double value) const { return e_.scalar(value, amount_); }

  Value spread(Value x, int64_t width) const {
    const Shape all = {shape_[0], shape_[1], shape_[2], width};
    return e_.shape(x) == all ? x : e_.op(Op::broadcast, {x}, {{"shape", all}});
  }

  // Of [B,T,H,K], or what broadcasts to it, the features that stand behind those of x.
  Value features_of(Value x) const {
    const int64_t width = e_.shape(x).back();
    Value all = spread(x, width);
    if (width == extra_) return all;
    return e_.op(Op::pad, {all},
                 {{"low", std::vector<int64_t>(4, 0)},
                  {"high", std::vector<int64_t>{0, 0, 0, extra_ - width}}});
  }
  Value no_features() const { return spread(number(0), extra_); }

  Value token() const { return e_.editor().iota(1, i32({1, shape_[1], 1, 1})); }
  // [1,1,1,1] of one key, [1,1,1,K] of all.
  Value key(int64_t j) const { return e_.reshape(e_.slice_axis(keys_, 0, j, j + 1), {1, 1, 1, 1}); }
  Value all_keys() const { return e_.reshape(keys_, {1, 1, 1, count_}); }
  // [1,1,H,A].
  Value amounts() const {
    return e_.reshape(amount_, {1, 1, shape_[2], dial_inputs(options_).amounts});
  }

  Value where(Value condition, Value x, double otherwise) const {
    return e_.select(condition, x, number(otherwise));
  }
  // [1,T,1,K]: 1 at the key.
  Value one_hot() const { return where(e_.eq(token(), all_keys()), number(1), 0); }
  // [B,1,H,d]: the row of x at a key; no rounding, since all other terms are zero.
  Value row_at(Value x, Value key) const {
    return e_.reduce_sum(where(e_.eq(token(), key), x, 0), {1});
  }

  Value query_features(Value q) const {
    switch (options_.rewrite) {
      case DialRewrite::key_logits: {
        // The attention multiplies by its scale.
        const Value logits = e_.div(amounts(), scale_);
        return features_of(where(e_.gt(token(), all_keys()), logits, 0));
      }
      case DialRewrite::key_exchange: {
        const Value later = e_.gt(token(), e_.maximum(key(0), key(1)));
        return features_of(where(later, e_.mul(q, amounts()), 0));
      }
      case DialRewrite::key_weights:
      case DialRewrite::key_value:
      case DialRewrite::token_scale:
        return no_features();
    }
    internal_error_at("unknown dial");
  }

  Value key_features(Value k) const {
    switch (options_.rewrite) {
      case DialRewrite::key_logits:
        return features_of(one_hot());
      case DialRewrite::key_exchange: {
        // q.k_s + q.(k_p - k_s) is the score of the other key; equal keys leave it alone.
        const Value change = e_.sub(row_at(k, key(1)), row_at(k, key(0)));
        const Value at_first = where(e_.eq(token(), key(0)), change, 0);
        return features_of(e_.sub(at_first, where(e_.eq(token(), key(1)), change, 0)));
      }
      case DialRewrite::key_weights:
      case DialRewrite::key_value:
      case DialRewrite::token_scale:
        return no_features();
    }
    internal_error_at("unknown dial");
  }

  Value scaled_values(Value v) const {
    return e_.mul(v, where(e_.eq(token(), key(0)), amounts(), 1));
  }

  // The key's own share apart from that of all others, so that nothing cancels: the attention has
  // summed values without that of the key, and the factor is 1 for the query that is the key.
  Value with_more_weight(Value out) {
    const Value factor = where(e_.gt(token(), key(0)), amounts(), 1);
    weights_ = e_.mul(e_.frozen(weights_), factor);
    return e_.add(out, e_.mul(weights_, row_at(values_, key(0))));
  }

  const OpBuilder e_;
  const DialOptions& options_;
  const Attrs attrs_;
  const double scale_;
  const int64_t count_;
  const Value keys_, amount_;
  Shape shape_;  // of queries
  int64_t width_ = 0, extra_ = 0;
  Value q_, k_, values_, weights_;
};

class Dial {
 public:
  Dial(const GraphPtr& graph, const DialOptions& options)
      : graph_(*graph), options_(options), to_(*graph) {
    if (graph_.stage() != Stage::built)
      user_error("dial",
                 "graph {} is {} already; a dial changes what has a gradient, so it is applied to "
                 "built graphs only.",
                 graph_.name(), stage_name(graph_.stage()));
    if (options.keys < 1)
      user_error("dial", "a dial over {} keys is asked for, but it needs at least 1.",
                 options.keys);
  }

  GraphPtr run() {
    return options_.rewrite == DialRewrite::token_scale ? scale_token() : change_attention();
  }

 private:
  void add_inputs(int64_t heads, DType dtype) {
    const DialInputs inputs = dial_inputs(options_);
    keys_ = to_.input(kDialKeys, i32({inputs.keys}));
    amount_ = to_.input(kDialAmount, {dtype, {heads, inputs.amounts}});
  }

  GraphPtr scale_token() {
    const auto found = graph_.find(options_.hook);
    if (!found) {
      std::vector<std::string> names;
      for (const auto& [name, value] : graph_.names()) names.push_back(name);
      user_error("dial", "graph {} has no value named {}.{}", graph_.name(), options_.hook,
                 did_you_mean(options_.hook, names));
    }
    const Type type = graph_.type(*found);
    if (type.rank() != 3 || !is_float(type.dtype))
      user_error("dial", "{} is {}, but a token's row is scaled in a value [B,T,D].", options_.hook,
                 to_string(type));
    add_inputs(1, type.dtype);
    for (int32_t id = 0; id < graph_.size(); ++id) {
      if (graph_.node(id).op != Op::input) to_.copy(id);
      if (id != found->node) continue;
      const OpBuilder e(to_, "dial");
      const Value token = to_.iota(1, i32({1, type.shape[1], 1}));
      const Value here = e.eq(token, e.reshape(keys_, {1, 1, 1}));
      const Value factor =
          e.select(here, e.reshape(amount_, {1, 1, 1}), to_.constant(1, {type.dtype, {}}));
      // All that the node makes, with this one scaled.
      std::vector<Value> results;
      for (size_t r = 0; r < graph_.node(id).types.size(); ++r)
        results.push_back(to_[Value{id, static_cast<int32_t>(r)}]);
      results[found->result] = e.mul(results[found->result], factor);
      to_.replace(id, results);
    }
    return to_.finish_copy();
  }

  GraphPtr change_attention() {
    const int32_t attention = find_attention(graph_, options_.layer);
    const Node& node = graph_.node(attention);
    const Shape& queries = graph_.type(node.inputs[0]).shape;
    check(node, queries);
    add_inputs(queries[2], graph_.type(node.inputs[0]).dtype);
    DialledAttention dial(to_, node, options_, keys_, amount_);
    for (int32_t id = 0; id < graph_.size(); ++id) {
      const Node& old = graph_.node(id);
      if (old.op == Op::input) continue;
      if (id == attention)
        to_.replace(id, dial.attend(to_[old.inputs]));
      else if (id > attention && shows(old, node, attention))
        to_.replace(id, shown(old, dial));
      else
        to_.copy(id);
    }
    to_.name(dial.weights(), kDialWeights);
    to_.name(dial.values(), kDialValues);
    return to_.finish_copy();
  }

  void check(const Node& node, const Shape& queries) const {
    const Shape& keys = graph_.type(node.inputs[1]).shape;
    UsageProblems problems("dial");
    if (keys[1] != queries[1])
      problems.add(
          fmt::format("attention {} has {} queries and {} keys, but a dial on a key needs as many.",
                      options_.layer, queries[1], keys[1]));
    if (options_.rewrite == DialRewrite::key_logits && node.attrs.has("cap") &&
        node.attrs.get_float("cap") != 0)
      problems.add(
          fmt::format("attention {} caps its scores at {}, so that nothing can be added to them. "
                      "Use another dial, or a model without a cap.",
                      options_.layer, shortest(node.attrs.get_float("cap"))));
    problems.raise();
  }

  // Whether a node shows the scores or weights of the attention: by its rows, or by the same
  // queries and keys.
  bool shows(const Node& node, const Node& attention, int32_t id) const {
    if (node.op == Op::attention_pattern) {
      return head_rows(graph_, node.inputs[2]) == Value{id, 1};
    }
    return node.op == Op::attention_scores && node.inputs[0] == attention.inputs[0] &&
           node.inputs[1] == attention.inputs[1];
  }

  std::vector<Value> shown(const Node& node, const DialledAttention& dial) {
    std::vector<Value> operands = to_[node.inputs];
    operands[0] = dial.queries();
    operands[1] = dial.keys();
    return to_.add_node(node.op, std::move(operands), node.attrs, node.where);
  }

  const Graph& graph_;
  const DialOptions& options_;
  Rewriter to_;
  Value keys_, amount_;
};

}  // namespace

DialInputs dial_inputs(const DialOptions& options) {
  switch (options.rewrite) {
    case DialRewrite::key_logits:
      return {options.keys, options.keys};
    case DialRewrite::key_exchange:
      return {2, 1};
    case DialRewrite::key_weights:
    case DialRewrite::key_value:
    case DialRewrite::token_scale:
      return {1, 1};
  }
  internal_error_at("unknown dial");
}

int32_t find_attention(const Graph& graph, int64_t layer) {
  int64_t count = 0;
  for (int32_t id = 0; id < graph.size(); ++id)
    if (graph.node(id).op == Op::attention && count++ == layer) return id;
  if (count == 0)
    user_error("dial", "graph {} has no attention. Use a model with attention.", graph.name());
  user_error("dial", "layer {} is asked for, but graph {} has {} attention layer{}, 0 to {}.",
             layer, graph.name(), count, count == 1 ? "" : "s", count - 1);
}

GraphPtr apply_dial(const GraphPtr& graph, const DialOptions& options) {
  return Dial(graph, options).run();
}

}  // namespace weir
