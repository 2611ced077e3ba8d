#include "ir/builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "support/error.h"

namespace weir {
namespace {

Tensor add_one(Op op, const std::vector<Tensor>& inputs, Attrs attrs, const Where& where) {
  return inputs.at(0).builder().add(op, inputs, std::move(attrs), where)[0];
}

Tensor scalar_like(const Tensor& x, double value) {
  return x.builder().constant(value, {x.type().dtype, {}});
}

std::vector<int64_t> normalise_axes(const Tensor& x, std::vector<int64_t> axes) {
  for (int64_t& axis : axes)
    if (axis < 0) axis += x.type().rank();
  return axes;
}

}  // namespace

std::string Where::text() const {
  return file.empty() ? "" : fmt::format("{}:{}", file.substr(file.rfind('/') + 1), line);
}

Builder& Tensor::builder() const {
  if (!builder_)
    user_error("builder",
               "a tensor is empty: it is no result of a builder's call. Make it first, e.g. by "
               "Builder::input.");
  return *builder_;
}

const Type& Tensor::type() const { return builder().graph().type(value_); }

Tensor Tensor::named(const std::string& name) const {
  builder().editor().name(value_, name);
  return *this;
}

GraphEditor& Builder::editor() {
  if (finished_)
    user_error("builder",
               "graph {} is finished; nothing can be added to it. Call finish() last, or start "
               "another graph with a new Builder.",
               finished_->name());
  return editor_;
}

Tensor Builder::input(const std::string& name, const Type& type) {
  return add_input(name, type, false);
}
Tensor Builder::state(const std::string& name, const Type& type) {
  return add_input(name, type, true);
}
Tensor Builder::add_input(const std::string& name, const Type& type, bool state) {
  const Graph& graph = editor().graph();
  if (static_cast<int32_t>(graph.inputs().size()) != graph.size())
    user_error("builder",
               "{} {} comes after other nodes of graph {}. Declare all inputs and states before "
               "the first constant or operation.",
               state ? "state" : "input", name, graph.name());
  return {this, editor().input(name, type, state)};
}
Tensor Builder::constant(double value, const Type& type) {
  return {this, editor().constant(value, type)};
}
Tensor Builder::iota(int64_t axis, const Type& type) { return {this, editor().iota(axis, type)}; }

void Builder::output(const std::string& name, const Tensor& value) {
  if (&value.builder() != this)
    user_error("builder", "output {} of graph {} is a tensor of another builder.", name,
               graph().name());
  editor().output(name, value.value());
}

GraphPtr Builder::finish() {
  const Graph& graph = editor().graph();
  Problems problems("builder");
  for (const Output& output : graph.outputs()) {
    const auto input = graph.find_input(output.name);
    if (input && graph.node(*input).attrs.get_bool("state") &&
        graph.type(output.value) != graph.type(*input))
      problems.add(fmt::format(
          "output {} is {}, but it is the new value of the state of that name, which is {}. Give "
          "it that type, or another name.",
          output.name, to_string(graph.type(output.value)), to_string(graph.type(*input))));
  }
  problems.raise();
  finished_ = editor_.finish();
  return finished_;
}

std::vector<Tensor> Builder::add(Op op, const std::vector<Tensor>& inputs, Attrs attrs,
                                 const Where& where) {
  std::vector<Value> values;
  for (const Tensor& input : inputs) {
    if (!input.valid() || &input.builder() != this)
      user_error(op_name(op), "an operand is empty or belongs to another builder.{}",
                 where.text().empty() ? "" : " Built at " + where.text() + ".");
    values.push_back(input.value());
  }
  std::vector<Value> results;
  try {
    results = editor().add_node(op, values, std::move(attrs), where.text());
  } catch (const UserError& error) {
    if (where.text().empty()) throw;
    throw UserError(fmt::format("{} Built at {}.", error.what(), where.text()));
  }
  std::vector<Tensor> tensors;
  for (Value value : results) tensors.emplace_back(this, value);
  return tensors;
}

// clang-format off
#define OP(name, op_class, builder, ...) WEIR_BUILDER_##builder(name)
#define WEIR_BUILDER_None(name)
#define WEIR_BUILDER_Unary(name) \
  Tensor name(const Tensor& x, const Where& where) { return add_one(Op::name, {x}, {}, where); }
#define WEIR_BUILDER_Binary(name)                                       \
  Tensor name(const Tensor& x, const Tensor& y, const Where& where) {   \
    return add_one(Op::name, {x, y}, {}, where);                        \
  }                                                                     \
  Tensor name(const Tensor& x, double y, const Where& where) {          \
    return add_one(Op::name, {x, scalar_like(x, y)}, {}, where);        \
  }                                                                     \
  Tensor name(double x, const Tensor& y, const Where& where) {          \
    return add_one(Op::name, {scalar_like(y, x), y}, {}, where);        \
  }
// What the table says is written below must be declared.
#define WEIR_BUILDER_Written(name) [[maybe_unused]] static void check_##name() { using weir::name; }
#include "ir/ops.def"
#undef WEIR_BUILDER_None
#undef WEIR_BUILDER_Written
#undef WEIR_BUILDER_Unary
#undef WEIR_BUILDER_Binary
// clang-format on

Tensor select(const Tensor& condition, const Tensor& x, const Tensor& y, const Where& where) {
  return add_one(Op::select, {condition, x, y}, {}, where);
}
Tensor random_bits(const Tensor& low, const Tensor& high, const Tensor& key, const Where& where) {
  return add_one(Op::random_bits, {low, high, key}, {}, where);
}
Tensor convert(const Tensor& x, DType to, const Where& where) {
  return add_one(Op::convert, {x}, {{"to", to}}, where);
}
Tensor gelu(const Tensor& x, bool exact, const Where& where) {
  Attrs attrs;
  if (exact) attrs.set("exact", true);
  return add_one(Op::gelu, {x}, attrs, where);
}

Tensor reduce_sum(const Tensor& x, std::vector<int64_t> axes, const Where& where) {
  return add_one(Op::reduce_sum, {x}, {{"axes", normalise_axes(x, std::move(axes))}}, where);
}
Tensor reduce_mean(const Tensor& x, std::vector<int64_t> axes, const Where& where) {
  return add_one(Op::reduce_mean, {x}, {{"axes", normalise_axes(x, std::move(axes))}}, where);
}
Tensor reduce_max(const Tensor& x, std::vector<int64_t> axes, const Where& where) {
  return add_one(Op::reduce_max, {x}, {{"axes", normalise_axes(x, std::move(axes))}}, where);
}
Tensor reduce_min(const Tensor& x, std::vector<int64_t> axes, const Where& where) {
  return add_one(Op::reduce_min, {x}, {{"axes", normalise_axes(x, std::move(axes))}}, where);
}

Tensor broadcast(const Tensor& x, Shape shape, const Where& where) {
  return add_one(Op::broadcast, {x}, {{"shape", std::move(shape)}}, where);
}
Tensor reshape(const Tensor& x, Shape shape, const Where& where) {
  return add_one(Op::reshape, {x}, {{"shape", std::move(shape)}}, where);
}
Tensor transpose(const Tensor& x, std::vector<int64_t> permutation, const Where& where) {
  return add_one(Op::transpose, {x}, {{"permutation", std::move(permutation)}}, where);
}
Tensor slice(const Tensor& x, std::vector<int64_t> starts, std::vector<int64_t> limits,
             const Where& where) {
  return add_one(Op::slice, {x}, {{"starts", std::move(starts)}, {"limits", std::move(limits)}},
                 where);
}
Tensor pad(const Tensor& x, std::vector<int64_t> low, std::vector<int64_t> high,
           const Where& where) {
  return add_one(Op::pad, {x}, {{"low", std::move(low)}, {"high", std::move(high)}}, where);
}
Tensor concat(const std::vector<Tensor>& parts, int64_t axis, const Where& where) {
  if (parts.empty()) user_error("concat", "no operands given. Give at least one tensor.");
  if (axis < 0) axis += parts[0].type().rank();
  return add_one(Op::concat, parts, {{"axis", axis}}, where);
}

Tensor matmul(const Tensor& a, const Tensor& b, MatmulOptions options, const Where& where) {
  Attrs attrs;
  if (options.transpose_a) attrs.set("transpose_a", true);
  if (options.transpose_b) attrs.set("transpose_b", true);
  return add_one(Op::matmul, {a, b}, attrs, where);
}
Tensor linear(const Tensor& x, const Tensor& weight, const Where& where) {
  return add_one(Op::matmul, {x, weight}, {{"transpose_b", true}}, where);
}
Tensor embedding(const Tensor& table, const Tensor& ids, const Where& where) {
  return add_one(Op::embedding, {table, ids}, {}, where);
}

Tensor rms_norm(const Tensor& x, const Tensor& gamma, double eps, const Where& where) {
  return add_one(Op::rms_norm, {x, gamma}, {{"eps", eps}}, where);
}
Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps,
                  const Where& where) {
  std::vector<Tensor> inputs = {x, gamma};
  if (beta.valid()) inputs.push_back(beta);
  return add_one(Op::layer_norm, inputs, {{"eps", eps}}, where);
}
namespace {

// The pair of features, as a real number, that turns `turns` times in `context` tokens.
double pair_of_turns(double turns, double base, double features, int64_t context) {
  return features * std::log(static_cast<double>(context) / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(base));
}

// Where YaRN begins to slow pairs of features down, and where it does so fully.
void set_yarn(Attrs& attrs, double base, int64_t features, const RopeScaling& s) {
  const auto d = static_cast<double>(features);
  double begin = pair_of_turns(s.fast, base, d, s.context);
  double end = pair_of_turns(s.slow, base, d, s.context);
  if (s.whole) begin = std::floor(begin), end = std::ceil(end);
  begin = std::max(begin, 0.0);
  end = std::min(end, d - 1);
  attrs.set("begin", begin);
  attrs.set("end", begin == end ? end + 0.001 : end);
  if (s.amplitude != 1) attrs.set("amplitude", s.amplitude);
}

}  // namespace

Tensor rope(const Tensor& x, double base, const RopeScaling& scaling, const Where& where) {
  Attrs attrs = {{"base", base}};
  if (scaling.kind != RopeKind::none) attrs.set("factor", scaling.factor);
  switch (scaling.kind) {
    case RopeKind::none:
    case RopeKind::linear:
      break;
    case RopeKind::llama3:
      attrs.set("low", scaling.low);
      attrs.set("high", scaling.high);
      attrs.set("context", scaling.context);
      break;
    case RopeKind::yarn:
      set_yarn(attrs, base, x.type().shape.back(), scaling);
      break;
  }
  return add_one(Op::rope, {x}, attrs, where);
}
static Attrs with_cap(Attrs attrs, double cap) {
  if (cap != 0) attrs.set("cap", cap);
  return attrs;
}
AttentionResult attention(const Tensor& q, const Tensor& k, const Tensor& v, bool causal,
                          double scale, AttentionNormalizer normalizer, double cap,
                          const Where& where) {
  Attrs attrs = with_cap({{"causal", causal}, {"scale", scale}}, cap);
  set_normalizer(attrs, normalizer);
  std::vector<Tensor> results = q.builder().add(Op::attention, {q, k, v}, attrs, where);
  return {results[0], results[1]};
}
AttentionResult attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& other,
                          bool causal, double scale, AttentionNormalizer normalizer, double cap,
                          const Where& where) {
  Attrs attrs = with_cap({{"causal", causal}, {"scale", scale}}, cap);
  set_normalizer(attrs, normalizer);
  std::vector<Tensor> results = q.builder().add(Op::attention, {q, k, v, other}, attrs, where);
  return {results[0], results[1]};
}
Tensor attention_pattern(const Tensor& q, const Tensor& k, const Tensor& rows, bool causal,
                         double scale, AttentionNormalizer normalizer, double cap,
                         const Where& where) {
  Attrs attrs = with_cap({{"causal", causal}, {"scale", scale}}, cap);
  set_normalizer(attrs, normalizer);
  return add_one(Op::attention_pattern, {q, k, rows}, attrs, where);
}
Tensor attention_scores(const Tensor& q, const Tensor& k, bool causal, double scale, double cap,
                        const Where& where) {
  return add_one(Op::attention_scores, {q, k},
                 with_cap({{"causal", causal}, {"scale", scale}}, cap), where);
}
Tensor attention_lse(const Tensor& rows, double scale, AttentionNormalizer normalizer, double cap,
                     const Where& where) {
  Attrs attrs = with_cap({{"scale", scale}}, cap);
  set_normalizer(attrs, normalizer);
  return add_one(Op::attention_lse, {rows}, attrs, where);
}
Tensor attention_head_gate(const Tensor& rows, const Tensor& bias, double scale, double cap,
                           const Where& where) {
  return add_one(Op::attention_head_gate, {rows, bias}, with_cap({{"scale", scale}}, cap), where);
}
Tensor v_scale(const Tensor& v, double c, const std::string& variant, const Where& where) {
  return add_one(Op::v_scale, {v}, {{"c", c}, {"variant", variant}}, where);
}
Tensor v_scale(const Tensor& v, const Tensor& theta, double c, const std::string& variant,
               const Where& where) {
  return add_one(Op::v_scale, {v, theta}, {{"c", c}, {"variant", variant}}, where);
}
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, const Tensor& scale, double cap,
                     const Where& where) {
  return add_one(Op::cross_entropy, {logits, targets, scale}, with_cap({}, cap), where);
}

// Operators cannot take a place.
Tensor operator+(const Tensor& x, const Tensor& y) { return add(x, y, Where{}); }
Tensor operator-(const Tensor& x, const Tensor& y) { return sub(x, y, Where{}); }
Tensor operator*(const Tensor& x, const Tensor& y) { return mul(x, y, Where{}); }
Tensor operator/(const Tensor& x, const Tensor& y) { return div(x, y, Where{}); }
Tensor operator+(const Tensor& x, double y) { return add(x, y, Where{}); }
Tensor operator-(const Tensor& x, double y) { return sub(x, y, Where{}); }
Tensor operator*(const Tensor& x, double y) { return mul(x, y, Where{}); }
Tensor operator/(const Tensor& x, double y) { return div(x, y, Where{}); }
Tensor operator*(double x, const Tensor& y) { return mul(x, y, Where{}); }
Tensor operator-(double x, const Tensor& y) { return sub(x, y, Where{}); }
Tensor operator-(const Tensor& x) { return neg(x, Where{}); }

}  // namespace weir
