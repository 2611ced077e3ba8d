#pragma once
// Short names for appending primitives to a graph in the making, so that a decomposition or a
// gradient rule reads as its formula: `e.mul(x, e.sigmoid(x))`.
#include <cmath>
#include <concepts>

#include "ir/edit.h"

namespace weir {

class OpBuilder {
 public:
  /// New nodes carry `where`, the source place of the node that they stand for.
  explicit OpBuilder(GraphEditor& editor, SharedText where = {})
      : editor_(editor), where_(std::move(where)) {}

  GraphEditor& editor() const { return editor_; }
  const Type& type(Value value) const { return editor_.type(value); }
  /// A copy, since types move when nodes are added.
  Shape shape(Value value) const { return editor_.type(value).shape; }

  /// Any op of one result.
  Value op(Op op, std::vector<Value> operands, Attrs attrs = {}) const {
    return editor_.add(op, std::move(operands), std::move(attrs), where_);
  }

  // exp(x), add(x, y), select(c, x, y) ...: every elementwise row of ops.def.
#define ELEMENTWISE(name, ...)          \
  template <std::same_as<Value>... V>   \
  Value name(V... operands) const {     \
    return op(Op::name, {operands...}); \
  }
#include "ir/ops.def"

  // With a number as second operand: a constant of the first one's dtype.
#define WEIR_WITH_NUMBER(name) \
  Value name(Value x, double y) const { return op(Op::name, {x, scalar(y, x)}); }
  WEIR_WITH_NUMBER(add)
  WEIR_WITH_NUMBER(sub)
  WEIR_WITH_NUMBER(mul)
  WEIR_WITH_NUMBER(div)
  WEIR_WITH_NUMBER(le)
  WEIR_WITH_NUMBER(ge)
  WEIR_WITH_NUMBER(gt)
  WEIR_WITH_NUMBER(lt)
#undef WEIR_WITH_NUMBER

  /// A rank-0 constant of the dtype of `like`.
  Value scalar(double value, Value like) const {
    return editor_.constant(value, {type(like).dtype, {}});
  }
  /// x in the dtype of `like`; x itself if it has that dtype.
  Value as_dtype_of(Value x, Value like) const {
    if (type(x).dtype == type(like).dtype) return x;
    return op(Op::convert, {x}, {{"to", type(like).dtype}});
  }
  /// x, through which no gradient flows: a stop_gradient in graphs still to be differentiated.
  Value frozen(Value x) const {
    return editor_.graph().stage() == Stage::built ? stop_gradient(x) : x;
  }

  Value reduce_sum(Value x, std::vector<int64_t> axes) const {
    return op(Op::reduce_sum, {x}, {{"axes", std::move(axes)}});
  }
  Value reduce_max(Value x, std::vector<int64_t> axes) const {
    return op(Op::reduce_max, {x}, {{"axes", std::move(axes)}});
  }
  Value sum_last(Value x) const { return reduce_sum(x, {type(x).rank() - 1}); }
  Value max_last(Value x) const { return reduce_max(x, {type(x).rank() - 1}); }
  /// The mean over the last axis.
  Value mean_last(Value x) const { return div(sum_last(x), static_cast<double>(shape(x).back())); }
  /// The mean of squares over the last axis, to which `eps` will be added. In rows that are long
  /// the numbers are made small by a power of two first, which changes no bit, so that the sum of
  /// squares of a root mean square of 10^18 stays in the range of f32.
  Value mean_square_last(Value x, double eps) const {
    const auto count = static_cast<double>(shape(x).back());
    constexpr double kLong = 256;  // 10^36 times this is in range
    // Small numbers are not lost if eps counts beside them.
    if (count <= kLong || eps < 1e-30) return mean_last(mul(x, x));
    const double factor = std::exp2(-std::ceil(std::log2(count / kLong) / 2));
    Value small = mul(x, factor);
    return div(sum_last(mul(small, small)), count * factor * factor);
  }

  /// x in another shape; x itself if it has that shape.
  Value reshape(Value x, Shape to) const {
    return shape(x) == to ? x : op(Op::reshape, {x}, {{"shape", std::move(to)}});
  }
  Value transpose(Value x, std::vector<int64_t> permutation) const {
    return op(Op::transpose, {x}, {{"permutation", std::move(permutation)}});
  }
  /// The elements start <= index < limit of one axis.
  Value slice_axis(Value x, int64_t axis, int64_t start, int64_t limit) const {
    std::vector<int64_t> starts(shape(x).size(), 0), limits = shape(x);
    starts[axis] = start;
    limits[axis] = limit;
    return op(Op::slice, {x}, {{"starts", starts}, {"limits", limits}});
  }
  Value concat(std::vector<Value> parts, int64_t axis) const {
    return op(Op::concat, std::move(parts), {{"axis", axis}});
  }
  Value matmul(Value a, Value b, bool transpose_a = false, bool transpose_b = false) const {
    Attrs attrs;
    if (transpose_a) attrs.set("transpose_a", true);
    if (transpose_b) attrs.set("transpose_b", true);
    return op(Op::matmul, {a, b}, std::move(attrs));
  }

 private:
  GraphEditor& editor_;
  SharedText where_;
};

}  // namespace weir
