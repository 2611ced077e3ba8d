#include "testing/graph_generator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace weir::test {
namespace {

constexpr double kLarge = 100;      // magnitudes above are squashed before further use
constexpr int64_t kElements = 600;  // larger values are cut before further use

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> list = {{},     {1},    {3},       {7},       {2, 3},      {3, 1},
                                          {1, 5}, {5, 9}, {2, 1, 3}, {2, 3, 4}, {1, 3, 2, 4}};
  return list;
}

}  // namespace

GraphGenerator::GraphGenerator(uint64_t seed, const GraphOptions& options)
    : options_(options), editor_("random"), random_(seed) {
  for (int i = 0; i < 3; ++i) {
    const Shape& shape = shapes()[random_.bits() % shapes().size()];
    floats_.push_back({editor_.input(fmt::format("x{}", i), f32(shape)), 2, true});
  }
  ids_ = editor_.input("ids", i32({5}));
  state_ = editor_.input("state", f32({3, 2}), true);
  floats_.push_back({state_, 2, true});
}

int64_t GraphGenerator::one_of(std::initializer_list<int64_t> choices) {
  return choices.begin()[random_.bits() % choices.size()];
}

void GraphGenerator::keep(Value value, double bound, bool exact) {
  if (type(value).elements() > kElements) {
    value = resized(value, {1, 11});
    if (random_.chance(0.5)) value = add(Op::reshape, {value}, {{"shape", Shape{11}}});
  }
  // Interning may have found a value that is kept already.
  for (const Item& item : floats_)
    if (item.value == value) return;
  floats_.push_back({value, bound, exact});
  if (random_.chance(0.3)) editor_.name(value, fmt::format("hook{}", names_++));
}

void GraphGenerator::keep_all(const std::vector<Value>& values,
                              std::initializer_list<double> bounds) {
  for (size_t i = 0; i < values.size(); ++i) keep(values[i], bounds.begin()[i]);
}

GraphGenerator::Item GraphGenerator::constant(double value) {
  return {editor_.constant(value, f32({})), std::abs(value), true};
}

Value GraphGenerator::scalar_between(double low, double high) {
  // Few digits, so that the text of a failing graph is easy to read.
  return editor_.constant(std::round(random_.uniform(low, high) * 16) / 16, f32({}));
}

GraphGenerator::Item GraphGenerator::pick() {
  // Later values are preferred, so that graphs grow deep.
  size_t from = random_.chance(0.6) ? floats_.size() / 2 : 0;
  return floats_[from + random_.bits() % (floats_.size() - from)];
}

GraphGenerator::Item GraphGenerator::pick(double limit) {
  Item item = pick();
  return item.bound <= limit ? item : Item{add(Op::tanh, {item.value}), 1, false};
}

GraphGenerator::Item GraphGenerator::pick_exact() {
  std::vector<Item> exact;
  for (const Item& item : floats_)
    if (item.exact) exact.push_back(item);
  return exact[random_.bits() % exact.size()];
}

GraphGenerator::Item GraphGenerator::partner(const Item& x, double limit) {
  if (random_.chance(0.2)) return constant(one_of({-1, 0, 1, 2}));
  if (random_.chance(0.2)) return {resized(pick(limit).value, type(x.value).shape), limit, false};
  std::vector<Item> fitting;
  for (const Item& item : floats_) {
    auto joined = broadcast_shapes(type(item.value).shape, type(x.value).shape);
    if (item.bound <= limit && joined && element_count(*joined) <= kElements)
      fitting.push_back(item);
  }
  return fitting.empty() ? constant(1) : fitting[random_.bits() % fitting.size()];
}

Value GraphGenerator::boolean_for(const Shape& shape) {
  for (Value value : booleans_) {
    auto joined = broadcast_shapes(type(value).shape, shape);
    if (joined && *joined == shape && random_.chance(0.7)) return value;
  }
  // Where gradients are checked, no condition may change with an input.
  Value compared = options_.differentiable
                       ? add(Op::sin, {editor_.iota(0, f32({element_count(shape)}))})
                       : pick_exact().value;
  return add(Op::lt, {resized(compared, shape), constant(0.25).value});
}

Value GraphGenerator::resized(Value x, const Shape& shape) {
  if (type(x).shape == shape) return x;
  int64_t have = type(x).elements(), want = element_count(shape);
  if (have != want) {
    x = add(Op::reshape, {x}, {{"shape", Shape{have}}});
    int64_t copies = (want + have - 1) / have;
    if (copies > 64) {  // concat takes no more
      x = add(Op::slice, {x}, {{"starts", Shape{0}}, {"limits", Shape{1}}});
      return add(Op::broadcast, {x}, {{"shape", shape}});
    }
    if (copies > 1)
      x = editor_.add(Op::concat, std::vector<Value>(copies, x), {{"axis", int64_t{0}}});
    if (copies * have != want)
      x = add(Op::slice, {x}, {{"starts", Shape{0}}, {"limits", Shape{want}}});
  }
  return type(x).shape == shape ? x : add(Op::reshape, {x}, {{"shape", shape}});
}

GraphGenerator::Item GraphGenerator::in_domain(const Item& x, double low, double high) {
  Value unit = add(Op::sigmoid, {x.value});
  Value scaled = add(Op::mul, {unit, constant(high - low).value});
  return {add(Op::add, {scaled, constant(low).value}), std::max(std::abs(low), std::abs(high)),
          false};
}

bool GraphGenerator::allowed(Op op) const {
  const OpInfo& row = info(op);
  if (row.op_class == OpClass::Composite && !options_.composites) return false;
  if (!options_.differentiable) return true;
  constexpr Op kKinked[] = {Op::abs,        Op::maximum,    Op::minimum,          Op::relu,
                            Op::reduce_max, Op::reduce_min, Op::straight_through, Op::convert};
  if (std::find(std::begin(kKinked), std::end(kKinked), op) != std::end(kKinked)) return false;
  return !row.has(op_trait::NoGradient) && !row.has(op_trait::Comparison);
}

void GraphGenerator::grow() {
  Op op;
  do op = all_ops()[random_.bits() % all_ops().size()];
  while (!allowed(op));
  make(op);
}

GraphPtr GraphGenerator::finish() {
  std::vector<std::vector<int32_t>> uses = editor_.graph().use_counts();
  std::vector<Item> unused;
  for (const Item& item : floats_)
    if (uses[item.value.node][item.value.result] == 0) unused.push_back(item);
  std::vector<Value> unused_booleans;
  for (Value value : booleans_)
    if (uses[value.node][value.result] == 0) unused_booleans.push_back(value);

  Value loss = constant(0).value;
  for (const Item& item : unused) {
    if (!options_.loss) break;
    Value small = item.bound <= kLarge ? item.value : add(Op::tanh, {item.value});
    Value flat = add(Op::reshape, {small}, {{"shape", Shape{type(small).elements()}}});
    // Weights that differ, so that no gradient vanishes by symmetry.
    Value weight = add(Op::cos, {editor_.iota(0, f32({type(small).elements()}))});
    Value sum = add(Op::reduce_sum, {add(Op::mul, {flat, weight})}, {{"axes", Shape{0}}});
    loss = add(Op::add, {loss, add(Op::reshape, {sum}, {{"shape", Shape{}}})});
  }
  if (options_.loss) editor_.output("loss", loss);
  int count = 0;
  for (const Item& item : unused) editor_.output(fmt::format("y{}", count++), item.value);
  count = 0;
  for (Value value : unused_booleans) editor_.output(fmt::format("b{}", count++), value);
  // The state moves towards the last value.
  Value last =
      floats_.back().bound <= kLarge ? floats_.back().value : add(Op::tanh, {floats_.back().value});
  Value step = add(Op::mul, {resized(last, {3, 2}), constant(0.5).value});
  editor_.output("state", add(Op::sub, {state_, step}));
  return editor_.finish();
}

}  // namespace weir::test
