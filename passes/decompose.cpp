#include "passes/decompose.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "passes/decompose_parts.h"
#include "passes/op_builder.h"
#include "support/error.h"

namespace weir {
namespace {

using Values = std::vector<Value>;

Value reduce_mean(const OpBuilder& e, Value x, const std::vector<int64_t>& axes) {
  double count = 1;
  for (int64_t axis : axes) count *= static_cast<double>(e.shape(x)[axis]);
  return e.div(e.reduce_sum(x, axes), count);
}

// max(x, 0) as a choice, so that NaN passes and the gradient at 0 is 0.
Value relu(const OpBuilder& e, Value x) { return e.select(e.le(x, 0.0), e.scalar(0, x), x); }

Value silu(const OpBuilder& e, Value x) { return e.mul(x, e.sigmoid(x)); }

Value gelu(const OpBuilder& e, Value x, bool exact) {
  Value inner;
  if (exact) {
    inner = e.erf(e.mul(x, 1 / std::numbers::sqrt2));
  } else {
    Value cube = e.mul(e.mul(x, x), x);
    inner = e.tanh(e.mul(e.add(x, e.mul(cube, 0.044715)), std::sqrt(2 / std::numbers::pi)));
  }
  return e.mul(e.mul(x, 0.5), e.add(inner, 1.0));
}

Value softmax(const OpBuilder& e, Value x) {
  Value exponential = e.exp(e.sub(x, e.frozen(e.max_last(x))));
  return e.div(exponential, e.sum_last(exponential));
}

Value rms_norm(const OpBuilder& e, Value x, Value gamma, double eps) {
  Value inverse = e.rsqrt(e.add(e.mean_square_last(x, eps), eps));
  return e.mul(e.mul(x, inverse), gamma);
}

Value layer_norm(const OpBuilder& e, const Values& in, double eps) {
  Value centred = e.sub(in[0], e.mean_last(in[0]));
  Value inverse = e.rsqrt(e.add(e.mean_square_last(centred, eps), eps));
  Value scaled = e.mul(e.mul(centred, inverse), in[1]);
  return in.size() == 3 ? e.add(scaled, in[2]) : scaled;
}

// A feature keeps the share of its frequency that its turns in `context` tokens lie between low and
// high, or that its number `index` lies between end and begin, and has the rest divided by
// `factor`.
Value scaled_frequency(const OpBuilder& e, Value frequency, Value index, const Attrs& attrs) {
  Value slowed = e.div(frequency, attrs.get_float("factor"));
  Value share;
  if (attrs.has("context")) {
    double low = attrs.get_float("low"), context = static_cast<double>(attrs.get_int("context"));
    Value turns = e.mul(frequency, context / (2 * std::numbers::pi));
    share = e.div(e.add(turns, -low), attrs.get_float("high") - low);
  } else if (attrs.has("end")) {
    double begin = attrs.get_float("begin"), end = attrs.get_float("end");
    share = e.div(e.add(index, -end), begin - end);
  } else {
    return slowed;
  }
  share = e.minimum(e.maximum(share, e.scalar(0, share)), e.scalar(1, share));
  return e.add(e.mul(frequency, share), e.sub(slowed, e.mul(slowed, share)));
}

// x[B,T,H,d]: feature i < d/2 is paired with i + d/2 (half-split) and turned by the angle
// t base^(-2i/d). The tables [T,1,d/2] are equal for all layers, so interning makes them one.
Value rope(const OpBuilder& e, Value x, const Attrs& attrs) {
  double base = attrs.get_float("base");
  const Shape shape = e.shape(x);
  int64_t tokens = shape[1], features = shape[3], half = features / 2;
  DType dtype = e.type(x).dtype == DType::f64 ? DType::f64 : DType::f32;
  Value position = e.editor().iota(0, {dtype, {tokens, 1, 1}});
  Value index = e.editor().iota(2, {dtype, {1, 1, half}});
  Value frequency =
      e.pow(e.scalar(base, index), e.mul(index, -2.0 / static_cast<double>(features)));
  if (attrs.has("factor")) frequency = scaled_frequency(e, frequency, index, attrs);
  Value angle = e.mul(position, frequency);
  Value cosine = e.cos(angle), sine = e.sin(angle);
  if (attrs.has("amplitude")) {
    cosine = e.mul(cosine, attrs.get_float("amplitude"));
    sine = e.mul(sine, attrs.get_float("amplitude"));
  }
  cosine = e.as_dtype_of(cosine, x), sine = e.as_dtype_of(sine, x);
  Value first = e.slice_axis(x, 3, 0, half), second = e.slice_axis(x, 3, half, features);
  Value first_cosine = e.mul(first, cosine), second_sine = e.mul(second, sine);
  Value second_cosine = e.mul(second, cosine), first_sine = e.mul(first, sine);
  if (attrs.get_bool("inverse"))
    return e.concat({e.add(first_cosine, second_sine), e.sub(second_cosine, first_sine)}, 3);
  return e.concat({e.sub(first_cosine, second_sine), e.add(second_cosine, first_sine)}, 3);
}

// v r / (r + C), r = |v|^2 over the head's features (spec/gradient-sinks.md, section 5).
Value v_scale(const OpBuilder& e, const Values& in, double c, const std::string& variant) {
  Value v = in[0];
  bool differentiable = e.editor().graph().stage() == Stage::built;
  if (variant == "backward" && !differentiable) return v;
  Value r = e.sum_last(e.mul(v, v));
  Value constant = e.scalar(c, v);
  if (in.size() == 2) {
    Shape per_head = e.shape(in[1]);
    per_head.push_back(1);
    constant = e.mul(e.reshape(e.exp(in[1]), per_head), c);
  }
  Value scaled = e.mul(v, e.div(r, e.add(r, constant)));
  if (variant == "full" || !differentiable) return scaled;
  return variant == "backward" ? e.straight_through(v, scaled) : e.straight_through(scaled, v);
}

// Decoupled decay, scaled by the rate; corrections are given as factors of the moments.
Values adamw(const OpBuilder& e, const Values& in, const Attrs& attrs) {
  double beta1 = attrs.get_float("beta1"), beta2 = attrs.get_float("beta2");
  double decay = attrs.get_float("weight_decay");
  Value p = in[0], rate = e.as_dtype_of(in[4], p);
  Value gradient = e.mul(in[1], e.as_dtype_of(in[7], p));
  Value m = e.add(e.mul(in[2], beta1), e.mul(gradient, 1 - beta1));
  Value v = e.add(e.mul(in[3], beta2), e.mul(e.mul(gradient, gradient), 1 - beta2));
  Value root = e.sqrt(e.mul(v, e.as_dtype_of(in[6], p)));
  Value step = e.div(e.mul(m, e.as_dtype_of(in[5], p)), e.add(root, attrs.get_float("eps")));
  Value kept = decay == 0 ? p : e.sub(p, e.mul(p, e.mul(rate, decay)));
  return {e.sub(kept, e.mul(step, rate)), m, v};
}

// g = factor gradient + weight_decay p; the moment is momentum m + g; p loses rate times it.
Values sgd(const OpBuilder& e, const Values& in, const Attrs& attrs) {
  double decay = attrs.get_float("weight_decay");
  Value p = in[0], rate = e.as_dtype_of(in[3], p);
  Value gradient = e.mul(in[1], e.as_dtype_of(in[4], p));
  if (decay != 0) gradient = e.add(gradient, e.mul(p, decay));
  Value moment = e.add(e.mul(in[2], attrs.get_float("momentum")), gradient);
  return {e.sub(p, e.mul(moment, rate)), moment};
}

}  // namespace

Values decompose_node(GraphEditor& editor, Op op, const Attrs& attrs, const Values& in,
                      const SharedText& where) {
  OpBuilder e(editor, where);
  switch (op) {
    // clang-format off
#define OP(name, op_class, ...)
#define COMPOSITE(...)
#define SOURCE(name, ...) case Op::name:
#define ELEMENTWISE(name, ...) case Op::name:
#define REDUCTION(name, ...) case Op::name:
#define MOVEMENT(name, ...) case Op::name:
#define CONTRACTION(name, ...) case Op::name:
#define EFFECT(name, ...) case Op::name:
#define KERNEL(name, ...) case Op::name:
#include "ir/ops.def"
    // clang-format on
    internal_error_at(fmt::format("{} is no composite", op_name(op)));
    case Op::reduce_mean:
      return {reduce_mean(e, in[0], attrs.get_ints("axes"))};
    case Op::relu:
      return {relu(e, in[0])};
    case Op::silu:
      return {silu(e, in[0])};
    case Op::gelu:
      return {gelu(e, in[0], attrs.get_bool("exact"))};
    case Op::swiglu:
      return {e.mul(silu(e, in[0]), in[1])};
    case Op::softmax:
      return {softmax(e, in[0])};
    case Op::rms_norm:
      return {rms_norm(e, in[0], in[1], attrs.get_float("eps"))};
    case Op::layer_norm:
      return {layer_norm(e, in, attrs.get_float("eps"))};
    case Op::rope:
      return {rope(e, in[0], attrs)};
    case Op::attention:
      return decompose_attention(e, in, attrs);
    case Op::attention_lse:
      return decompose_attention_lse(e, in, attrs);
    case Op::attention_head_gate:
      return decompose_attention_head_gate(e, in, attrs);
    case Op::attention_grad:
      return decompose_attention_grad(e, in, attrs);
    case Op::attention_score_grad:
      return decompose_attention_score_grad(e, in, attrs);
    case Op::attention_scores:
      return decompose_attention_scores(e, in, attrs);
    case Op::attention_stats:
      return decompose_attention_stats(e, in, attrs);
    case Op::attention_identities:
      return decompose_attention_identities(e, in, attrs);
    case Op::attention_map:
      return decompose_attention_map(e, in, attrs);
    case Op::attention_pattern:
      return decompose_attention_pattern(e, in, attrs);
    case Op::v_scale:
      return {v_scale(e, in, attrs.get_float("c"), attrs.get_string("variant"))};
    case Op::cross_entropy:
      return decompose_cross_entropy(e, in, attrs);
    case Op::linear_cross_entropy:
      return decompose_linear_cross_entropy(e, in, attrs);
    case Op::linear_cross_entropy_grad:
      return decompose_linear_cross_entropy_grad(e, in, attrs);
    case Op::adamw:
      return adamw(e, in, attrs);
    case Op::sgd:
      return sgd(e, in, attrs);
    case Op::muon:
      return decompose_muon(e, in, attrs);
  }
  internal_error_at("unknown op");
}

bool has_own_kernel(Op op) { return info(op).has(op_trait::OwnKernel); }

GraphPtr decompose(const GraphPtr& graph, DecomposeMode mode) {
  if (mode == DecomposeMode::none) return graph;
  return rewrite(graph, [&](Rewriter& rewriter, int32_t id) -> std::optional<Values> {
    const Node& node = graph->node(id);
    if (info(node.op).op_class != OpClass::Composite) return std::nullopt;
    if (mode == DecomposeMode::lower && has_own_kernel(node.op)) return std::nullopt;
    return decompose_node(rewriter, node.op, node.attrs, rewriter[node.inputs], node.where);
  });
}

}  // namespace weir
