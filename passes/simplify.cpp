#include "passes/simplify.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <variant>

#include "ir/edit.h"
#include "passes/fold.h"
#include "support/error.h"

namespace weir {
namespace {

/// A node about to be added: what the rules look at and rewrite.
struct Form {
  Op op;
  Attrs attrs;
  std::vector<Value> in;
};

/// What a rule makes of a form: nothing, an existing value, or another form.
using Outcome = std::variant<std::monostate, Value, Form>;
constexpr std::monostate kNothing;

/// A form with the graph around it.
struct Site {
  GraphEditor& editor;
  const Form& form;
  const Type& type;  ///< of the result

  Value in(size_t i) const { return form.in[i]; }
  const Type& type_of(Value value) const { return editor.type(value); }
  const Node& node(Value value) const { return editor.graph().node(value); }
  bool is(Op op) const { return form.op == op; }
  /// Whether operand i is made by `op`.
  bool made_by(size_t i, Op op) const { return node(in(i)).op == op; }
  Value operand_of(size_t i, size_t j = 0) const { return node(in(i)).inputs[j]; }
  const std::vector<int64_t>& ints_of(size_t i, const char* name) const {
    return node(in(i)).attrs.get_ints(name);
  }
  std::optional<double> constant(size_t i) const {
    if (!made_by(i, Op::constant)) return std::nullopt;
    return node(in(i)).attrs.get_float("value");
  }
  bool is_constant(size_t i, double value) const { return constant(i) == value; }
  bool is_class(OpClass op_class) const { return info(form.op).op_class == op_class; }
  /// The shape of the result if operand i had another one.
  bool keeps_shape(size_t i, const Shape& other) const {
    Shape shape = other;
    for (size_t j = 0; j < form.in.size(); ++j) {
      if (j == i) continue;
      auto joined = broadcast_shapes(shape, type_of(in(j)).shape);
      if (!joined) return false;
      shape = *joined;
    }
    return shape == type.shape;
  }
  Form with_operand(size_t i, Value value) const {
    Form changed = form;
    changed.in[i] = value;
    return changed;
  }
};

// Whether no element can have its sign bit set, looking a few steps back. The sign of a sum or of a
// product of matrices is known only if every term's is: a negative result that is too small for a
// normal number becomes -0.
bool never_negative(const Graph& graph, Value value, int depth = 4) {
  if (depth == 0) return false;
  const Node& node = graph.node(value);
  const auto operand = [&](size_t i) { return never_negative(graph, node.inputs[i], depth - 1); };
  if (node.op == Op::exp || node.op == Op::abs || node.op == Op::sigmoid || node.op == Op::iota)
    return true;
  if (node.op == Op::constant) return !std::signbit(node.attrs.get_float("value"));
  if (node.op == Op::mul) return node.inputs[0] == node.inputs[1];
  if (node.op == Op::add) return operand(0) && operand(1);
  if (node.op == Op::select) return operand(1) && operand(2);
  if (node.op == Op::convert) return operand(0);
  return info(node.op).op_class == OpClass::Movement && node.op != Op::concat && operand(0);
}

// Whether no element can be -0, which integers do not have.
bool never_negative_zero(const Graph& graph, Value value) {
  if (!is_float(graph.type(value).dtype)) return true;
  const Node& node = graph.node(value);
  if (node.op == Op::convert && !is_float(graph.type(node.inputs[0]).dtype)) return true;
  return never_negative(graph, value);
}

Outcome fold_constants(const Site& s) {
  if (!s.is_class(OpClass::Elementwise)) return kNothing;
  std::vector<double> operands;
  for (size_t i = 0; i < s.form.in.size(); ++i) {
    auto value = s.constant(i);
    if (!value) return kNothing;
    operands.push_back(*value);
  }
  auto folded = fold_elementwise(s.form.op, operands, s.type.dtype);
  if (!folded) return kNothing;
  return s.editor.constant(*folded, s.type);
}

Outcome move_constant(const Site& s) {
  if (!s.is_class(OpClass::Movement) || s.is(Op::concat)) return kNothing;
  auto value = s.constant(0);
  if (!value || (s.is(Op::pad) && (*value != 0 || std::signbit(*value)))) return kNothing;
  return s.editor.constant(*value, s.type);
}

Outcome scalar_constant(const Site& s) {
  if (!s.is_class(OpClass::Elementwise)) return kNothing;
  for (size_t i = 0; i < s.form.in.size(); ++i)
    if (auto value = s.constant(i); value && s.type_of(s.in(i)).rank() > 0 && s.keeps_shape(i, {}))
      return s.with_operand(i, s.editor.constant(*value, {s.type_of(s.in(i)).dtype, {}}));
  return kNothing;
}

Outcome implicit_broadcast(const Site& s) {
  if (!s.is_class(OpClass::Elementwise)) return kNothing;
  for (size_t i = 0; i < s.form.in.size(); ++i)
    if (s.made_by(i, Op::broadcast) && s.keeps_shape(i, s.type_of(s.operand_of(i)).shape))
      return s.with_operand(i, s.operand_of(i));
  return kNothing;
}

Outcome add_zero(const Site& s) {
  if (!s.is(Op::add)) return kNothing;
  for (size_t i = 0; i < 2; ++i)
    if (const auto zero = s.constant(i);
        zero && *zero == 0 &&
        (std::signbit(*zero) || never_negative_zero(s.editor.graph(), s.in(1 - i))))
      return s.in(1 - i);
  return kNothing;
}

Outcome sub_zero(const Site& s) {
  if (!s.is(Op::sub)) return kNothing;
  const auto zero = s.constant(1);
  return zero && *zero == 0 && !std::signbit(*zero) ? Outcome(s.in(0)) : kNothing;
}

Outcome mul_one(const Site& s) {
  if (!s.is(Op::mul)) return kNothing;
  for (size_t i = 0; i < 2; ++i)
    if (s.is_constant(i, 1)) return s.in(1 - i);
  return kNothing;
}

Outcome mul_minus_one(const Site& s) {
  if (!s.is(Op::mul) || !is_float(s.type.dtype)) return kNothing;
  for (size_t i = 0; i < 2; ++i)
    if (s.is_constant(i, -1) && s.type_of(s.in(1 - i)) == s.type)
      return Form{Op::neg, {}, {s.in(1 - i)}};
  return kNothing;
}

Outcome div_one(const Site& s) {
  return s.is(Op::div) && s.is_constant(1, 1) ? Outcome(s.in(0)) : kNothing;
}

Outcome div_power_of_two(const Site& s) {
  if (!s.is(Op::div) || (s.type.dtype != DType::f32 && s.type.dtype != DType::f64)) return kNothing;
  auto divisor = s.constant(1);
  if (!divisor || !std::isnormal(*divisor)) return kNothing;
  int exponent = 0;
  if (std::abs(std::frexp(*divisor, &exponent)) != 0.5 || std::abs(exponent) > 100) return kNothing;
  const Type& type = s.type_of(s.in(1));
  return Form{Op::mul, {}, {s.in(0), s.editor.constant(1 / *divisor, type)}};
}

Outcome neg_neg(const Site& s) {
  return s.is(Op::neg) && s.made_by(0, Op::neg) ? Outcome(s.operand_of(0)) : kNothing;
}

Outcome add_neg(const Site& s) {
  if (!s.is(Op::add)) return kNothing;
  for (size_t i : {1, 0})
    if (s.made_by(i, Op::neg)) return Form{Op::sub, {}, {s.in(1 - i), s.operand_of(i)}};
  return kNothing;
}

Outcome sub_neg(const Site& s) {
  if (!s.is(Op::sub) || !s.made_by(1, Op::neg)) return kNothing;
  return Form{Op::add, {}, {s.in(0), s.operand_of(1)}};
}

Outcome mul_neg(const Site& s) {
  if (!s.is(Op::mul) && !s.is(Op::div)) return kNothing;
  if (s.made_by(0, Op::neg) && s.made_by(1, Op::neg))
    return Form{s.form.op, {}, {s.operand_of(0), s.operand_of(1)}};
  for (size_t i = 0; i < 2; ++i)
    if (auto value = s.constant(i); value && s.made_by(1 - i, Op::neg) && is_float(s.type.dtype)) {
      Form changed = s.with_operand(i, s.editor.constant(-*value, s.type_of(s.in(i))));
      changed.in[1 - i] = s.operand_of(1 - i);
      return changed;
    }
  return kNothing;
}

Outcome abs_neg(const Site& s) {
  if (!s.is(Op::abs) || !(s.made_by(0, Op::neg) || s.made_by(0, Op::abs))) return kNothing;
  return s.with_operand(0, s.operand_of(0));
}

Outcome same_operands(const Site& s) {
  bool idempotent =
      s.is(Op::maximum) || s.is(Op::minimum) || s.is(Op::logical_and) || s.is(Op::logical_or);
  return idempotent && s.in(0) == s.in(1) ? Outcome(s.in(0)) : kNothing;
}

Outcome not_not(const Site& s) {
  bool twice = s.is(Op::logical_not) && s.made_by(0, Op::logical_not);
  return twice ? Outcome(s.operand_of(0)) : kNothing;
}

Outcome select_constant(const Site& s) {
  if (!s.is(Op::select)) return kNothing;
  const auto condition = s.constant(0);
  return condition ? Outcome(s.in(*condition != 0 ? 1 : 2)) : kNothing;
}

Outcome select_same(const Site& s) {
  return s.is(Op::select) && s.in(1) == s.in(2) ? Outcome(s.in(1)) : kNothing;
}

Outcome select_not(const Site& s) {
  if (!s.is(Op::select) || !s.made_by(0, Op::logical_not)) return kNothing;
  return Form{Op::select, {}, {s.operand_of(0), s.in(2), s.in(1)}};
}

Outcome convert_same(const Site& s) {
  bool same = s.is(Op::convert) && s.type_of(s.in(0)).dtype == s.type.dtype;
  return same ? Outcome(s.in(0)) : kNothing;
}

// Whether every value of `from` is one of `to`.
bool is_widening(DType from, DType to) {
  if (from == to || to == DType::f64) return true;
  if (to == DType::f32) return from != DType::f64 && from != DType::i32;
  if (to == DType::i32) return !is_float(from);
  return from == DType::boolean;
}

Outcome convert_convert(const Site& s) {
  if (!s.is(Op::convert) || !s.made_by(0, Op::convert)) return kNothing;
  DType first = s.type_of(s.operand_of(0)).dtype;
  // To bool is a test against 0 or a truncation, which an intermediate type does not change either.
  if (!is_widening(first, s.type_of(s.in(0)).dtype)) return kNothing;
  return s.with_operand(0, s.operand_of(0));
}

Outcome same_shape(const Site& s) {
  bool keeps = s.is(Op::broadcast) || s.is(Op::reshape) || s.is(Op::slice) || s.is(Op::pad) ||
               (s.is(Op::concat) && s.form.in.size() == 1);
  return keeps && s.type_of(s.in(0)).shape == s.type.shape ? Outcome(s.in(0)) : kNothing;
}

Outcome twice_moved(const Site& s) {
  bool last_decides = s.is(Op::broadcast) || s.is(Op::reshape);
  if (!last_decides || !s.made_by(0, s.form.op)) return kNothing;
  return s.with_operand(0, s.operand_of(0));
}

Outcome transpose_identity(const Site& s) {
  if (!s.is(Op::transpose)) return kNothing;
  const auto& permutation = s.form.attrs.get_ints("permutation");
  return std::is_sorted(permutation.begin(), permutation.end()) ? Outcome(s.in(0)) : kNothing;
}

Outcome transpose_transpose(const Site& s) {
  if (!s.is(Op::transpose) || !s.made_by(0, Op::transpose)) return kNothing;
  std::vector<int64_t> joined;
  for (int64_t axis : s.form.attrs.get_ints("permutation"))
    joined.push_back(s.ints_of(0, "permutation")[axis]);
  return Form{Op::transpose, {{"permutation", joined}}, {s.operand_of(0)}};
}

Outcome transpose_of_ones(const Site& s) {
  if (!s.is(Op::transpose)) return kNothing;
  int64_t previous = -1;
  for (int64_t axis : s.form.attrs.get_ints("permutation")) {
    if (s.type_of(s.in(0)).shape[axis] == 1) continue;
    if (axis < previous) return kNothing;
    previous = axis;
  }
  return Form{Op::reshape, {{"shape", s.type.shape}}, {s.in(0)}};
}

Outcome slice_slice(const Site& s) {
  if (!s.is(Op::slice) || !s.made_by(0, Op::slice)) return kNothing;
  std::vector<int64_t> starts = s.form.attrs.get_ints("starts");
  std::vector<int64_t> limits = s.form.attrs.get_ints("limits");
  for (size_t axis = 0; axis < starts.size(); ++axis) {
    starts[axis] += s.ints_of(0, "starts")[axis];
    limits[axis] += s.ints_of(0, "starts")[axis];
  }
  return Form{Op::slice, {{"starts", starts}, {"limits", limits}}, {s.operand_of(0)}};
}

Outcome reduce_ones(const Site& s) {
  if (!s.is_class(OpClass::Reduction)) return kNothing;
  std::vector<int64_t> axes = s.form.attrs.get_ints("axes");
  const Shape& shape = s.type_of(s.in(0)).shape;
  size_t before = axes.size();
  std::erase_if(axes, [&](int64_t axis) { return shape[axis] == 1; });
  if (axes.empty()) return s.in(0);
  if (axes.size() == before) return kNothing;
  Form changed = s.form;
  changed.attrs.set("axes", axes);
  return changed;
}

Outcome operand_order(const Site& s) {
  if (!info(s.form.op).has(op_trait::Commutative) || s.in(0) <= s.in(1)) return kNothing;
  return Form{s.form.op, s.form.attrs, {s.in(1), s.in(0)}};
}

Outcome gradient_only(const Site& s) {
  bool is_value = s.is(Op::identity) || s.is(Op::stop_gradient) || s.is(Op::straight_through);
  return is_value ? Outcome(s.in(0)) : kNothing;
}

struct Rule {
  const char* name;
  Outcome (*apply)(const Site&);
  Stage from;
  const char* safety;
};

// clang-format off
constexpr Rule kRules[] = {
    {"gradient_only", gradient_only, Stage::differentiated, "identity, stop_gradient and straight_through are their first operand once gradients are taken"},
    {"fold_constants", fold_constants, Stage::built, "constants are exact until emitted; a conversion that rounds and a NaN are left"},
    {"move_constant", move_constant, Stage::built, "all elements are equal wherever they move; padding adds +0 only"},
    {"scalar_constant", scalar_constant, Stage::built, "operands broadcast implicitly"},
    {"implicit_broadcast", implicit_broadcast, Stage::built, "operands broadcast implicitly"},
    {"add_zero", add_zero, Stage::built, "x + -0 is x; x + +0 would turn -0 into +0, so only where x is never -0"},
    {"sub_zero", sub_zero, Stage::built, "x - +0 is x, also for -0 and NaN"},
    {"mul_one", mul_one, Stage::built, "x * 1 is x"},
    {"mul_minus_one", mul_minus_one, Stage::built, "x * -1 flips the sign bit, as neg does"},
    {"div_one", div_one, Stage::built, "x / 1 is x"},
    {"div_power_of_two", div_power_of_two, Stage::built, "the reciprocal is exact, so both round the same real number"},
    {"neg_neg", neg_neg, Stage::built, "flips the sign bit twice"},
    {"add_neg", add_neg, Stage::built, "x + (-y) is x - y by IEEE 754"},
    {"sub_neg", sub_neg, Stage::built, "x - (-y) is x + y by IEEE 754"},
    {"mul_neg", mul_neg, Stage::built, "the sign of a product or quotient is apart from its size"},
    {"abs_neg", abs_neg, Stage::built, "the sign bit is cleared in any case"},
    {"same_operands", same_operands, Stage::built, "idempotent, also for NaN"},
    {"not_not", not_not, Stage::built, "bool"},
    {"select_constant", select_constant, Stage::built, "only the chosen operand counts"},
    {"select_same", select_same, Stage::built, "both operands are one value"},
    {"select_not", select_not, Stage::built, "bool"},
    {"convert_same", convert_same, Stage::built, "no conversion"},
    {"convert_convert", convert_convert, Stage::built, "the first conversion loses nothing"},
    {"same_shape", same_shape, Stage::built, "broadcast, reshape, slice, pad or concat that moves nothing"},
    {"twice_moved", twice_moved, Stage::built, "the last broadcast or reshape decides"},
    {"transpose_identity", transpose_identity, Stage::built, "moves nothing"},
    {"transpose_transpose", transpose_transpose, Stage::built, "one permutation"},
    {"transpose_of_ones", transpose_of_ones, Stage::built, "only axes of size 1 move, so the order in memory stays"},
    {"slice_slice", slice_slice, Stage::built, "one slice"},
    {"reduce_ones", reduce_ones, Stage::built, "the sum or maximum of one element is that element"},
    {"operand_order", operand_order, Stage::built, "IEEE 754 add and mul commute but for the payload of NaN; maximum and minimum but for the sign of zero"},
};
// clang-format on

// A node's rules have not settled after this many steps: a pair of rules undoes each other.
constexpr int kMaximumSteps = 1000;

class Simplifier {
 public:
  explicit Simplifier(SimplifyStats& stats) : stats_(stats) {
    stats_.hits.resize(std::size(kRules), 0);
  }

  /// What stands for the node of this form and type, after all rules; nothing if none applies.
  std::optional<Value> settle(GraphEditor& editor, Form form, const Type& type,
                              const SharedText& where) {
    for (int step = 0; step < kMaximumSteps; ++step) {
      Outcome outcome = first_rule({editor, form, type});
      if (std::holds_alternative<std::monostate>(outcome)) {
        if (step == 0) return std::nullopt;
        return editor.add(form.op, form.in, form.attrs, where);
      }
      if (Form* changed = std::get_if<Form>(&outcome)) {
        form = std::move(*changed);
        continue;
      }
      Value value = std::get<Value>(outcome);
      if (editor.type(value) == type) return value;
      // An operand that the op had broadcast.
      form = {Op::broadcast, {{"shape", type.shape}}, {value}};
    }
    internal_error_at(fmt::format("the rules of {} do not settle", op_name(form.op)));
  }

 private:
  Outcome first_rule(const Site& site) {
    for (size_t i = 0; i < std::size(kRules); ++i) {
      if (site.editor.graph().stage() < kRules[i].from) continue;
      Outcome outcome = kRules[i].apply(site);
      if (std::holds_alternative<std::monostate>(outcome)) continue;
      ++stats_.hits[i];
      return outcome;
    }
    return kNothing;
  }

  SimplifyStats& stats_;
};

bool has_rules(Op op) {
  OpClass op_class = info(op).op_class;
  return op_class == OpClass::Elementwise || op_class == OpClass::Reduction ||
         op_class == OpClass::Movement;
}

}  // namespace

std::vector<SimplifyRuleInfo> simplify_rules() {
  std::vector<SimplifyRuleInfo> rules;
  for (const Rule& rule : kRules) rules.push_back({rule.name, rule.safety, rule.from});
  return rules;
}

GraphPtr simplify(const GraphPtr& graph, SimplifyStats* stats) {
  SimplifyStats own;
  Simplifier simplifier(stats ? *stats : own);
  std::set<int32_t> fixed;
  if (graph->stage() == Stage::built)
    for (const auto& [name, value] : graph->names()) fixed.insert(value.node);
  GraphPtr result =
      rewrite(graph, [&](Rewriter& rewriter, int32_t id) -> std::optional<std::vector<Value>> {
        const Node& node = graph->node(id);
        if (!has_rules(node.op) || fixed.contains(id)) return std::nullopt;
        Form form{node.op, node.attrs, rewriter[node.inputs]};
        const std::optional<Value> settled =
            simplifier.settle(rewriter, std::move(form), node.types[0], node.where);
        if (!settled) return std::nullopt;
        return std::vector<Value>{*settled};
      });
  return live_graph(result, /*keep_named=*/true);
}

}  // namespace weir
