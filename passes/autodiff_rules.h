#pragma once
// What the rules of autodiff are written with. A rule sees one node and the gradients of its
// results (upstream) and accumulates a gradient into each operand that needs one, by building graph
// only.
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "passes/op_builder.h"

namespace weir {

/// Arithmetic on gradients. Multiplication by a constant 1 and an explicit broadcast that the other
/// operand implies anyway are left out as they arise, so that plain losses give plain graphs.
class GradientMath {
 public:
  GradientMath(GraphEditor& editor, SharedText where) : editor_(editor), where_(std::move(where)) {}

  GraphEditor& editor() { return editor_; }
  const Type& type(Value x) const { return editor_.type(x); }
  Value add_op(Op op, std::vector<Value> inputs, Attrs attrs = {});
  std::vector<Value> add_node(Op op, std::vector<Value> inputs, Attrs attrs = {});

  Value scalar(double value, DType dtype);
  Value scalar_like(double value, Value x) { return scalar(value, type(x).dtype); }
  Value add(Value x, Value y) { return binary(Op::add, x, y); }
  Value sub(Value x, Value y) { return binary(Op::sub, x, y); }
  Value mul(Value x, Value y);
  Value mul(Value x, double y) { return mul(x, scalar_like(y, x)); }
  Value div(Value x, Value y) { return binary(Op::div, x, y); }
  Value neg(Value x);
  Value binary(Op op, Value x, Value y);
  Value select(Value condition, Value x, Value y);
  Value zero_where(Value condition, Value x) { return select(condition, scalar_like(0, x), x); }
  Value sum(Value x, std::vector<int64_t> axes);
  Value sum_last(Value x) { return sum(x, {type(x).rank() - 1}); }
  Value mean_last(Value x);
  Value mean_square_last(Value x, double eps) {
    return OpBuilder(editor_, where_).mean_square_last(x, eps);
  }
  Value reshape(Value x, const Shape& shape);
  Value broadcast(Value x, const Shape& shape);
  Value transpose(Value x, const std::vector<int64_t>& permutation);
  /// The last two axes exchanged.
  Value transpose_last(Value x);
  Value matmul(Value a, Value b, bool transpose_a, bool transpose_b);

  /// The value of a constant node.
  std::optional<double> constant_value(Value x) const;
  /// x summed over the axes along which `shape` was broadcast, or repeated along those it lacks.
  Value fit(Value x, const Shape& shape);

 private:
  Value without_broadcast(Value x, Value other);
  GraphEditor& editor_;
  SharedText where_;
};

/// One node on the way back.
class Pullback : public GradientMath {
 public:
  struct Hooks {
    std::function<bool(size_t operand)> needs_grad;
    std::function<void(size_t operand, Value gradient)> accumulate;
    std::function<void(const std::string& problem)> problem;
  };
  Pullback(GraphEditor& editor, Node node, std::vector<Value> results,
           std::vector<std::optional<Value>> upstream, Hooks hooks)
      : GradientMath(editor, node.where),
        node_(std::move(node)),
        results_(std::move(results)),
        upstream_(std::move(upstream)),
        hooks_(std::move(hooks)) {}

  const Node& node() const { return node_; }
  const Attrs& attrs() const { return node_.attrs; }
  size_t operands() const { return node_.inputs.size(); }
  Value in(size_t operand) const { return node_.inputs[operand]; }
  Value out(size_t result = 0) const { return results_[result]; }
  const Shape& shape(size_t operand) const { return type(in(operand)).shape; }
  /// The gradient of a result, if one arrived; dy() is that of the first.
  const std::optional<Value>& upstream(size_t result) const { return upstream_[result]; }
  Value dy() const;

  bool needs_grad(size_t operand) const { return hooks_.needs_grad(operand); }
  /// Adds to the gradient of an operand; a broadcast operand gets the sum over its repetitions.
  void accumulate(size_t operand, Value gradient);
  /// The same, built only if the operand needs it.
  template <typename Build>
    requires std::is_invocable_r_v<Value, Build>
  void accumulate(size_t operand, Build build) {
    if (needs_grad(operand)) accumulate(operand, build());
  }
  /// Reports a user error together with all others.
  void problem(const std::string& text) { hooks_.problem(text); }

 private:
  Node node_;  // a copy: the editor's nodes move as it grows
  std::vector<Value> results_;
  std::vector<std::optional<Value>> upstream_;
  Hooks hooks_;
};

/// How gradients pass an op.
enum class GradientKind {
  rule,       ///< by a rule of its own
  decompose,  ///< by the rules of its decomposition
  stops,      ///< not at all, as it is meant: comparisons, stop_gradient, sources
  missing     ///< not at all, and that is a user error when the loss needs it
};
struct GradientRule {
  GradientKind kind;
  void (*pull_back)(Pullback&) = nullptr;  ///< of kind `rule`
};
/// The row of the op in the one table of gradients.
GradientRule gradient_rule(Op op);

/// Whether the gradient of the results of `node` may flow to this operand at all: a float operand
/// that is neither a stopped one nor the shown value of a straight_through.
bool carries_gradient(const Graph& graph, const Node& node, size_t operand);

// Rules of more than a line (autodiff_rules_*.cpp).
void pull_back_abs(Pullback& p);
void pull_back_pow(Pullback& p);
void pull_back_extremum(Pullback& p);
void pull_back_reduce_extremum(Pullback& p);
void pull_back_transpose(Pullback& p);
void pull_back_slice(Pullback& p);
void pull_back_pad(Pullback& p);
void pull_back_concat(Pullback& p);
void pull_back_matmul(Pullback& p);
void pull_back_softmax(Pullback& p);
void pull_back_rms_norm(Pullback& p);
void pull_back_layer_norm(Pullback& p);
void pull_back_rope(Pullback& p);
void pull_back_attention(Pullback& p);
void pull_back_attention_head_gate(Pullback& p);
void pull_back_cross_entropy(Pullback& p);
void pull_back_linear_cross_entropy_grad(Pullback& p);

}  // namespace weir
