#include "codegen/loop/terms.h"

#include <algorithm>

#include "support/error.h"

namespace weir {
namespace {

std::vector<int64_t> row_major(const Shape& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

class TermBuilder {
 public:
  TermBuilder(const Graph& region, LoopTerms& out) : region_(region), out_(out) {
    for (size_t i = 0; i < region.inputs().size(); ++i)
      position_[region.inputs()[i]] = static_cast<int>(i);
  }

  void output(int position) {
    Value value = region_.outputs()[position].value;
    const Type& type = region_.type(value);
    size_t rank = out_.extents.size();
    WEIR_CHECK(type.shape.size() == rank, "output {} of {} axes in a space of {}", position,
               type.shape.size(), rank);
    std::vector<int64_t> strides = row_major(type.shape);
    IndexMap map(rank);
    for (size_t i = 0; i < rank; ++i) {
      if (type.shape[i] == 1)
        strides[i] = 0;
      else
        map[i].axis = static_cast<int>(i);
    }
    out_.stores.push_back({term(value, map), position, type.dtype, strides});
  }

 private:
  int term(Value value, const IndexMap& map) {
    auto key = std::make_pair(value, map);
    auto found = made_.find(key);
    if (found != made_.end()) return found->second;
    int made = make(value, map);
    made_.emplace(std::move(key), made);
    return made;
  }

  int make(Value value, const IndexMap& map) {
    const Node& node = region_.node(value);
    const DType dtype = region_.type(value).dtype;
    if (dtype == DType::f64)
      user_error("codegen",
                 "{} gives {}, but compiled arithmetic is f32 and i32. Convert it to f32, or run "
                 "the program with the interpreter.",
                 op_name(node.op), to_string(region_.type(value)));
    switch (info(node.op).op_class) {
      case OpClass::Source:
        return source(value, map);
      case OpClass::Elementwise:
        return elementwise(value, map);
      case OpClass::Reduction:
        return reduction(value, map);
      case OpClass::Movement:
        return movement(value, map);
      case OpClass::Contraction:
      case OpClass::Composite:
      case OpClass::Effect:
      case OpClass::Kernel:
        break;
    }
    internal_error_at(fmt::format("{} in a region of loops", op_name(node.op)));
  }

  /// How an operand that broadcasts into a result is indexed.
  IndexMap aligned(Value operand, const IndexMap& map) const {
    const Shape& shape = region_.type(operand).shape;
    IndexMap result(map.end() - static_cast<int64_t>(shape.size()), map.end());
    for (size_t i = 0; i < shape.size(); ++i)
      if (shape[i] == 1) result[i] = {};
    return result;
  }
  /// Along an axis of extent 1 the only index is 0.
  int at(Value value, const IndexMap& map) { return term(value, aligned(value, map)); }

  int source(Value value, const IndexMap& map) {
    const Node& node = region_.node(value);
    Term term;
    term.dtype = region_.type(value).dtype;
    if (node.op == Op::constant) {
      term.value = node.attrs.get_float("value");
      return add(term);
    }
    if (node.op == Op::iota) {
      term.kind = TermKind::iota;
      term.index = map[node.attrs.get_int("axis")];
      return add(term);
    }
    WEIR_CHECK(node.op == Op::input, "unknown source {}", op_name(node.op));
    term.kind = TermKind::load;
    term.buffer = position_.at(value.node);
    term.strides.assign(out_.extents.size(), 0);
    std::vector<int64_t> strides = row_major(region_.type(value).shape);
    for (size_t i = 0; i < map.size(); ++i) {
      term.offset += map[i].offset * strides[i];
      if (map[i].axis >= 0) term.strides[map[i].axis] += strides[i];
    }
    return add(term);
  }

  int elementwise(Value value, const IndexMap& map) {
    const Node& node = region_.node(value);
    const DType dtype = region_.type(value).dtype;
    bool same = node.op == Op::identity || node.op == Op::stop_gradient ||
                node.op == Op::straight_through ||
                (node.op == Op::convert && region_.type(node.inputs[0]).dtype == dtype);
    if (same) return at(node.inputs[0], map);
    Term term;
    term.kind = TermKind::compute;
    term.op = node.op;
    term.dtype = dtype;
    for (Value operand : node.inputs) term.operands.push_back(at(operand, map));
    return add(term);
  }

  int reduction(Value value, const IndexMap& map) {
    const Node& node = region_.node(value);
    const Shape& shape = region_.type(node.inputs[0]).shape;
    IndexMap inner = map;
    Term term;
    term.kind = TermKind::reduce;
    term.op = node.op;
    term.dtype = region_.type(value).dtype;
    term.extent = 1;
    term.lanes = node.attrs.get_int_or("lanes", 0);
    // Operand axes are aligned from the right with the loop axes, of which there may be more.
    int shift = static_cast<int>(out_.extents.size()) - static_cast<int>(shape.size());
    WEIR_CHECK(shift >= 0, "a reduction of {} in a space of {} axes", to_string(shape),
               out_.extents.size());
    for (int64_t axis : node.attrs.get_ints("axes")) {
      if (shape[axis] == 1) continue;
      int loop = static_cast<int>(axis) + shift;
      for (const AxisIndex& index : map)
        WEIR_CHECK(index.axis != loop, "a reduction moved along its own axis {}", axis);
      inner[axis] = {loop, 0};
      term.axes.push_back(loop);
      term.extent *= shape[axis];
    }
    int operand = at(node.inputs[0], inner);
    if (term.extent == 1) return operand;  // one element, from the identity: the element itself
    term.operands = {operand};
    return add(term);
  }

  int movement(Value value, const IndexMap& map) {
    const Node& node = region_.node(value);
    const Value operand = node.inputs[0];
    IndexMap inner = map;
    if (node.op == Op::broadcast) return at(operand, map);
    if (node.op == Op::pad) return pad(value, map);
    if (node.op == Op::concat) return concat(value, map);
    if (node.op == Op::transpose) {
      const auto& permutation = node.attrs.get_ints("permutation");
      for (size_t i = 0; i < map.size(); ++i) inner[permutation[i]] = map[i];
      return at(operand, inner);
    }
    WEIR_CHECK(node.op == Op::slice, "{} in a region of loops", op_name(node.op));
    const auto& starts = node.attrs.get_ints("starts");
    for (size_t i = 0; i < map.size(); ++i) inner[i].offset += starts[i];
    return at(operand, inner);
  }

  int zero(DType dtype) {
    Term term;
    term.dtype = dtype;
    return add(term);
  }

  int pad(Value value, const IndexMap& map) {
    const Node& node = region_.node(value);
    const Shape& shape = region_.type(node.inputs[0]).shape;
    const auto& low = node.attrs.get_ints("low");
    const auto& high = node.attrs.get_ints("high");
    IndexMap inner = map;
    std::vector<Interval> where;
    for (size_t i = 0; i < map.size(); ++i) {
      inner[i].offset -= low[i];
      if (low[i] == 0 && high[i] == 0) continue;
      if (map[i].axis >= 0)
        where.push_back({map[i].axis, -inner[i].offset, shape[i] - inner[i].offset});
      else if (inner[i].offset < 0 || inner[i].offset >= shape[i])
        return zero(region_.type(value).dtype);
    }
    int operand = at(node.inputs[0], inner);
    return where.empty() ? operand : choose(value, {operand}, {where}, false);
  }

  int concat(Value value, const IndexMap& map) {
    const Node& node = region_.node(value);
    const size_t axis = node.attrs.get_int("axis");
    std::vector<int> operands;
    std::vector<std::vector<Interval>> where;
    IndexMap inner = map;
    for (Value part : node.inputs) {
      const int64_t extent = region_.type(part).shape[axis], offset = inner[axis].offset;
      if (map[axis].axis >= 0) {
        operands.push_back(at(part, inner));
        where.push_back({{map[axis].axis, -offset, extent - offset}});
      } else if (offset >= 0 && offset < extent) {
        return at(part, inner);
      }
      inner[axis].offset -= extent;
    }
    return choose(value, operands, where, true);
  }

  int choose(Value value, std::vector<int> operands, std::vector<std::vector<Interval>> where,
             bool total) {
    Term term;
    term.kind = TermKind::choose;
    term.dtype = region_.type(value).dtype;
    term.operands = std::move(operands);
    term.where = std::move(where);
    term.total = total;
    return add(term);
  }

  int add(Term term) {
    for (size_t axis = 0; axis < term.strides.size(); ++axis)
      if (term.strides[axis] != 0) term.depends |= uint64_t{1} << axis;
    if (term.kind == TermKind::iota && term.index.axis >= 0)
      term.depends |= uint64_t{1} << term.index.axis;
    for (const auto& conditions : term.where)
      for (const Interval& interval : conditions) term.depends |= uint64_t{1} << interval.axis;
    for (int operand : term.operands) {
      const Term& below = out_.terms[operand];
      term.depends |= below.depends;
      term.level = std::max(term.level, below.level);
      term.cost = std::min(term.cost + below.cost, 1 << 20);
    }
    if (term.kind == TermKind::reduce) {
      for (int axis : term.axes) term.depends &= ~(uint64_t{1} << axis);
      ++term.level;
      term.cost = 0;  // its pass has computed it
    }
    if (term.kind == TermKind::load) term.cost = 1;
    if (term.kind == TermKind::compute) term.cost += info(term.op).instructions;
    for (size_t i = 0; i < out_.terms.size(); ++i)
      if (out_.terms[i] == term) return static_cast<int>(i);
    out_.terms.push_back(std::move(term));
    return static_cast<int>(out_.terms.size()) - 1;
  }

  const Graph& region_;
  LoopTerms& out_;
  std::map<int32_t, int> position_;
  std::map<std::pair<Value, IndexMap>, int> made_;
};

}  // namespace

DType register_type(DType dtype) { return is_float(dtype) ? DType::f32 : DType::i32; }

LoopTerms make_loop_terms(const Graph& region, std::vector<int64_t> extents,
                          const std::vector<int>& outputs) {
  WEIR_CHECK(extents.size() <= 64, "{} loop axes", extents.size());
  LoopTerms terms;
  terms.extents = std::move(extents);
  TermBuilder builder(region, terms);
  for (int output : outputs) builder.output(output);
  return terms;
}

}  // namespace weir
