#include "ir/infer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ir/attention_identities.h"
#include "ir/map_cells.h"
#include "ir/normalizer.h"
#include "ir/primitive_types.h"
#include "ir/score_transform.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

// Scores of so many keys at a time lie in scratch; the lowering asks for 64 at most.
constexpr int64_t kMaxKeyBlock = 65536;

class Inference : PrimitiveTypes {
 public:
  using PrimitiveTypes::PrimitiveTypes;

  std::vector<Type> run() {
    const OpInfo& row = info(op_);
    int count = static_cast<int>(inputs_.size());
    if (count < row.inputs_min || count > row.inputs_max)
      fail("{} operands given, but {} needed.", count,
           row.inputs_min == row.inputs_max
               ? fmt::format("{}", row.inputs_min)
               : fmt::format("{} to {}", row.inputs_min, row.inputs_max));
    std::vector<Type> results = infer();
    for (const Type& type : results)
      if (!is_valid_shape(type.shape))
        fail("the result would be {}. Every extent must be positive, and at most {} elements fit.",
             to_string(type), kMaxElements);
    return results;
  }

 private:
  Type norm() {
    need_float(0);
    if (in(0).rank() < 1) fail("operand 0 is {}, but at least one axis is needed.", text(0));
    for (size_t i = 1; i < inputs_.size(); ++i)
      need_last(i, in(0).shape.back(), i == 1 ? "gain" : "bias");
    return in(0);
  }
  Type last_axis() {
    need_float(0);
    if (in(0).rank() < 1) fail("operand 0 is {}, but at least one axis is needed.", text(0));
    return in(0);
  }
  Type rope() {
    need_float(0);
    need_rank(0, 4, "[B,T,H,d]");
    if (in(0).shape[3] % 2)
      fail("operand {} has {} features a head, but an even number is needed.", text(0),
           in(0).shape[3]);
    const double base = attrs_.get_float("base");
    if (!(base > 0 && std::isfinite(base))) fail("base {}: a positive number is needed.", base);
    check_rope_scaling();
    return in(0);
  }
  int given(std::initializer_list<const char*> names) const {
    int count = 0;
    for (const char* name : names) count += attrs_.has(name);
    return count;
  }
  void check_rope_scaling() {
    const int turns = given({"low", "high", "context"}), ramp = given({"begin", "end"});
    if (attrs_.has("amplitude") && !std::isfinite(attrs_.get_float("amplitude")))
      fail("amplitude {} is no number.", attrs_.get_float("amplitude"));
    if (turns + ramp > 0 && !attrs_.has("factor"))
      fail("the attributes low, high, context, begin and end need factor.");
    if (turns % 3 != 0) fail("the attributes low, high and context are needed together.");
    if (ramp % 2 != 0) fail("the attributes begin and end are needed together.");
    if (turns > 0 && ramp > 0)
      fail("low, high and context are of another scaling than begin and end: give one of them.");
    if (!attrs_.has("factor")) return;
    const double factor = attrs_.get_float("factor");
    if (!(factor > 0 && std::isfinite(factor)))
      fail("factor {}: a positive number is needed.", factor);
    if (ramp > 0 && !(std::abs(attrs_.get_float("end") - attrs_.get_float("begin")) > 0))
      fail("begin {} and end {}: two different numbers are needed.", attrs_.get_float("begin"),
           attrs_.get_float("end"));
    if (turns == 0) return;
    const double low = attrs_.get_float("low"), high = attrs_.get_float("high");
    if (!(low > 0 && high > low && attrs_.get_int("context") > 0))
      fail(
          "factor {}, low {}, high {} and context {}: positive numbers with low < high are needed.",
          factor, low, high, attrs_.get_int("context"));
  }

  void check_cap() {
    if (!attrs_.has("cap")) return;
    const double cap = attrs_.get_float("cap");
    if (!(cap >= kLeastCap && cap <= kMostCap))
      fail("cap is {}, but a number from {} to {} is needed; without one, leave the attribute out.",
           cap, kLeastCap, kMostCap);
  }
  void check_heads() {
    const AttentionNormalizer normalizer = normalizer_of(attrs_);  // or a user error
    if (!std::isfinite(attrs_.get_float("scale")))
      fail("scale is {}, but a finite number is needed.", attrs_.get_float("scale"));
    check_cap();
    const int64_t key_block = attrs_.get_int_or("key_block", 1);
    if (key_block < 1 || key_block > kMaxKeyBlock)
      fail("key_block is {}, but 1 to {} keys at a time are possible.", key_block, kMaxKeyBlock);
    const char* layouts[] = {"q in [B,T,H,d]", "k in [B,S,G,d]", "v in [B,S,G,d]"};
    const bool values = op_ == Op::attention || op_ == Op::attention_grad ||
                        op_ == Op::attention_score_grad || op_ == Op::attention_identities;
    if (values && is_across_heads(normalizer))
      fail(
          "the normaliser {} is made of all heads, but an attention normalises one. Multiply the "
          "output of softmax by attention_head_gate instead, as the option attention={} does.",
          normalizer_name(normalizer), normalizer_name(normalizer));
    size_t operands = values ? 3 : 2;
    for (size_t i = 0; i < operands; ++i) {
      need_float(i);
      need_rank(i, 4, layouts[i]);
    }
    const Shape &q = in(0).shape, &k = in(1).shape;
    if (operands == 3 && in(1) != in(2))
      fail("keys {} and values {} differ in type.", text(1), text(2));
    if (q[0] != k[0] || q[3] != k[3])
      fail("queries {} and keys {}: batch and features a head must be equal.", text(0), text(1));
    if (q[2] % k[2])
      fail("queries {} and keys {}: {} query heads are no multiple of {} key heads.", text(0),
           text(1), q[2], k[2]);
    if (attrs_.get_bool("causal") && q[1] != k[1])
      fail(
          "queries {} and keys {}: causal attention needs as many keys as queries, but {} and "
          "{} are given.",
          text(0), text(1), k[1], q[1]);
  }
  /// [B,H,T]: one number a row of scores.
  Type by_row() const {
    const Shape& q = in(0).shape;
    return {in(0).dtype, {q[0], q[2], q[1]}};
  }
  /// [B,H,T,S].
  Type all_weights() const {
    Type weights = by_row();
    weights.shape.push_back(in(1).shape[1]);
    return weights;
  }
  Type rows_type() const {
    Type rows = by_row();
    rows.shape.insert(rows.shape.begin() + 2, info(normalizer_of(attrs_)).row_numbers());
    return rows;
  }
  /// The score of another key, which the operand `i` is where the normaliser takes it.
  void check_other_score(size_t i) {
    const AttentionNormalizer normalizer = normalizer_of(attrs_);
    const bool takes_other = takes_other_score(normalizer), has_other = inputs_.size() > i;
    if (takes_other && !has_other)
      fail("the normaliser {} needs operand {}, the score of another key {}.",
           normalizer_name(normalizer), i, to_string(by_row()));
    if (has_other && !takes_other)
      fail("the normaliser {} takes no score of another key, but {} is given.",
           normalizer_name(normalizer), text(i));
    if (has_other) need_type(i, by_row(), "score of another key");
  }
  std::vector<Type> attention() {
    check_heads();
    check_other_score(3);
    return {in(0), rows_type()};
  }
  Type attention_lse() {
    const int64_t numbers = info(normalizer_of(attrs_)).row_numbers();
    check_cap();
    need_float(0);
    need_rank(0, 4, fmt::format("row statistics in [B,H,{},T]", numbers).c_str());
    const Shape& rows = in(0).shape;
    if (rows[2] != numbers)
      fail("{} are no row statistics of attention: those are [B,H,{},T], {} numbers a row.",
           text(0), numbers, numbers);
    return {in(0).dtype, {rows[0], rows[1], rows[3]}};
  }
  Type attention_head_gate() {
    check_cap();
    need_float(0);
    need_rank(0, 4, "row statistics of softmax in [B,H,2,T]");
    const Shape& rows = in(0).shape;
    if (rows[2] != info(AttentionNormalizer::softmax).row_numbers())
      fail("{} are no row statistics of a softmax attention: those are [B,H,2,T].", text(0));
    need_type(1, {in(0).dtype, {rows[1]}}, "bias of heads");
    return {in(0).dtype, {rows[0], rows[3], rows[1]}};
  }
  /// The gradient at row log-sum-exps, as operand `i` if there is one.
  void check_lse_gradient(size_t i) {
    if (inputs_.size() <= i) return;
    const AttentionNormalizer normalizer = normalizer_of(attrs_);
    if (normalizer != AttentionNormalizer::softmax)
      fail("the gradient at row log-sum-exps {} needs the normaliser softmax, not {}.", text(i),
           normalizer_name(normalizer));
    need_type(i, by_row(), "gradient at row log-sum-exps");
  }
  void check_gradient_operands() {
    check_heads();
    need_type(3, in(0), "output");
    need_type(4, rows_type(), "row statistics");
    need_type(5, in(0), "output gradient");
    check_lse_gradient(6);
  }
  std::vector<Type> attention_grad() {
    check_gradient_operands();
    return {in(0), in(1), in(2)};
  }
  std::vector<Type> attention_score_grad() {
    check_gradient_operands();
    return {all_weights(), all_weights()};
  }
  Type attention_scores() {
    check_heads();
    return all_weights();
  }
  std::vector<Type> attention_stats() {
    check_heads();
    need_type(2, rows_type(), "row statistics");
    int64_t keys = in(1).shape[1], sink = attrs_.get_int("sink");
    if (sink < 0 || sink >= keys) fail("sink token {} is none of the {} keys.", sink, keys);
    Type rows = by_row(), columns = rows;
    columns.shape[2] = keys;
    return {columns, columns, rows, rows, rows, rows};
  }
  Type attention_pattern() {
    check_heads();
    need_type(2, rows_type(), "row statistics");
    return all_weights();
  }
  Type attention_map() {
    check_heads();
    need_type(2, rows_type(), "row statistics");
    const int64_t side = attrs_.get_int("side");
    if (side < 1) fail("side {} is not positive.", side);
    Type result = by_row();
    result.shape[2] = map_cells(in(0).shape[1], side).count();
    result.shape.push_back(map_cells(in(1).shape[1], side).count());
    return result;
  }
  std::vector<Type> attention_identities() {
    check_heads();
    need_type(3, in(0), "output");
    need_type(4, in(0), "output gradient");
    if (takes_other_score(normalizer_of(attrs_)))
      check_other_score(5);
    else
      check_lse_gradient(5);
    const Shape &q = in(0).shape, &k = in(1).shape;
    const DType dtype = in(0).dtype;
    const Type by_head{dtype, {k[0], k[1], q[2], k[3]}};
    return {by_head,
            by_head,
            in(0),
            {dtype, {q[0], q[2], kKeyNumbers, k[1]}},
            {dtype, {q[0], q[2], kQueryNumbers, q[1]}}};
  }
  Type v_scale() {
    last_axis();
    const std::string& variant = attrs_.get_string("variant");
    std::vector<std::string> known = {"full", "backward", "forward"};
    if (std::find(known.begin(), known.end(), variant) == known.end())
      fail("unknown variant '{}'. Use full, backward or forward.{}", variant,
           did_you_mean(variant, known));
    if (inputs_.size() == 2) {
      if (in(0).rank() < 2) fail("operand 0 is {}, but [..., heads, d] is needed.", text(0));
      need_type(1, {in(0).dtype, {in(0).shape[in(0).shape.size() - 2]}}, "theta");
      if (variant == "backward")
        fail("the backward variant has theta frozen at 0, but a theta {} is given.", text(1));
    }
    return in(0);
  }

  Type cross_entropy() {
    check_cap();
    need_float(0);
    need_rank(0, 2, "logits [N,V]");
    need_type(1, i32({in(0).shape[0]}), "targets");
    need_scalar(2, "scale");
    return {in(0).dtype, {}};
  }
  std::vector<Type> linear_cross_entropy(bool gradient) {
    check_cap();
    need_float(0);
    need_rank(0, 2, "x [N,D]");
    need_rank(1, 2, "w [V,D]");
    if (in(0).shape[1] != in(1).shape[1])
      fail("x {} and w {}: {} and {} features differ.", text(0), text(1), in(0).shape[1],
           in(1).shape[1]);
    need_type(2, i32({in(0).shape[0]}), "targets");
    need_scalar(3, "scale");
    Type loss{in(0).dtype, {}};
    if (!gradient) return {loss};
    return {loss, in(0), in(1)};
  }
  std::vector<Type> optimiser(size_t tensors) {
    const char* names[] = {"parameter", "gradient", "first moment", "second moment"};
    need_float(0);
    for (size_t i = 1; i < tensors; ++i) need_type(i, in(0), names[i]);
    for (size_t i = tensors; i < inputs_.size(); ++i) need_scalar(i, "step scalar");
    return std::vector<Type>(tensors - 1, in(0));
  }

  std::vector<Type> infer();
};

std::vector<Type> Inference::infer() {
  switch (op_) {
    case Op::input:
    case Op::constant:
    case Op::iota:
    case Op::kernel:
      internal_error_at(fmt::format("{} carries its type", op_name(op_)));
#define OP(...)
#define ELEMENTWISE(name, ...) case Op::name:
#include "ir/ops.def"
      return {elementwise_op()};
    case Op::relu:
    case Op::silu:
    case Op::gelu:
      return {unary_float()};
    case Op::swiglu:
      need_float(0);
      return {elementwise()};
    case Op::reduce_sum:
    case Op::reduce_max:
    case Op::reduce_min:
    case Op::reduce_mean:
      return {reduction()};
    case Op::broadcast:
      return {broadcast()};
    case Op::reshape:
      return {reshape()};
    case Op::transpose:
      return {transpose()};
    case Op::slice:
      return {slice()};
    case Op::pad:
      return {pad()};
    case Op::concat:
      return {concat()};
    case Op::matmul:
      return {matmul()};
    case Op::embedding:
      return {embedding()};
    case Op::embedding_grad:
      return {embedding_grad()};
    case Op::softmax:
      return {last_axis()};
    case Op::rms_norm:
    case Op::layer_norm:
      return {norm()};
    case Op::rope:
      return {rope()};
    case Op::attention:
      return attention();
    case Op::attention_lse:
      return {attention_lse()};
    case Op::attention_head_gate:
      return {attention_head_gate()};
    case Op::attention_grad:
      return attention_grad();
    case Op::attention_score_grad:
      return attention_score_grad();
    case Op::attention_scores:
      return {attention_scores()};
    case Op::attention_stats:
      return attention_stats();
    case Op::attention_map:
      return {attention_map()};
    case Op::attention_identities:
      return attention_identities();
    case Op::attention_pattern:
      return {attention_pattern()};
    case Op::v_scale:
      return {v_scale()};
    case Op::cross_entropy:
      return {cross_entropy()};
    case Op::linear_cross_entropy:
      return linear_cross_entropy(false);
    case Op::linear_cross_entropy_grad:
      return linear_cross_entropy(true);
    case Op::adamw:
      return optimiser(4);
    case Op::sgd:
      return optimiser(3);
    case Op::muon:
      need_rank(0, 2, "[M,N]");
      return optimiser(3);
    case Op::probe:
      return {};
  }
  internal_error_at("unknown op");
}

}  // namespace

std::vector<Type> infer_types(Op op, const std::vector<const Type*>& inputs, const Attrs& attrs) {
  return Inference(op, inputs, attrs).run();
}

void check_source(Op op, const Type& type, const Attrs& attrs) {
  std::string what = op == Op::input ? attrs.get_string("name") + " is " : "the type is ";
  if (!is_valid_shape(type.shape))
    user_error(op_name(op), "{}{}. Every extent must be positive, and at most {} elements fit.",
               what, to_string(type), kMaxElements);
  if (op == Op::iota) {
    int64_t axis = attrs.get_int("axis");
    if (axis < 0 || axis >= type.rank())
      user_error("iota", "axis {} is none of {}.", axis, to_string(type));
    if (type.dtype == DType::boolean)
      user_error("iota", "{} cannot count. Give it a number type.", to_string(type));
  }
  if (op == Op::constant && !is_float(type.dtype)) {
    double value = attrs.get_float("value");
    double low = type.dtype == DType::i32 ? -0x1p31 : type.dtype == DType::i8 ? -128 : 0;
    double high = type.dtype == DType::i32  ? 0x1p31 - 1
                  : type.dtype == DType::i8 ? 127
                  : type.dtype == DType::u8 ? 255
                                            : 1;
    if (!(value >= low && value <= high))
      user_error("constant", "{} does not fit into {}.", shortest(value), dtype_name(type.dtype));
  }
}

}  // namespace weir
