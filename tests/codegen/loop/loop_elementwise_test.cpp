#include <cmath>

#include "codegen/loop/loop_test_util.h"
#include "ir/builder.h"
#include "support/error.h"

namespace weir::test {
namespace {

/// Worst relative error of an op in f32 against f64 on its test domain: 1 ulp is 1.2e-7, and the
/// polynomials of vector_math.h are within 2.5 of them.
constexpr Tolerance kOneOp = {.relative = 4e-7, .absolute = 1e-9};

std::vector<Op> elementwise_ops() {
  std::vector<Op> ops;
  for (Op op : all_ops())
    if (info(op).op_class == OpClass::Elementwise && op != Op::convert) ops.push_back(op);
  return ops;
}

bool is_logical(Op op) {
  return op == Op::logical_not || op == Op::logical_and || op == Op::logical_or;
}

GraphPtr one_op(Op op, DType dtype, const Shape& shape) {
  GraphEditor editor(op_name(op));
  std::vector<Value> operands;
  for (int i = 0; i < info(op).inputs_min; ++i) {
    const bool condition = is_logical(op) || (op == Op::select && i == 0);
    operands.push_back(editor.input(fmt::format("x{}", i), {condition               ? DType::boolean
                                                            : op == Op::random_bits ? DType::i32
                                                                                    : dtype,
                                                            shape}));
  }
  editor.output("y", editor.add(op, operands));
  return editor.finish();
}

// Around one vector, and primes that leave every length of tail.
const std::vector<int64_t> kLengths = {1, 7, 8, 9, 15, 16, 17, 31, 61, 64, 127, 1009};

TEST(LoopElementwise, EveryOpAtEveryLength) {
  for (Op op : elementwise_ops())
    for (int64_t length : {1, 15, 17, 127})
      check_region(one_op(op, DType::f32, {length}), "elementwise", kOneOp, info(op).low,
                   info(op).high);
}

TEST(LoopElementwise, EveryLength) {
  for (int64_t length : kLengths)
    check_region(one_op(Op::add, DType::f32, {length}), "elementwise", kOneOp);
}

TEST(LoopElementwise, ManyTiles) {
  check_region(one_op(Op::mul, DType::f32, {3, 100003}), "elementwise", kOneOp);
}

TEST(LoopElementwise, NarrowTypesRoundAtEveryNode) {
  for (DType dtype : {DType::bf16, DType::f16})
    for (Op op : {Op::add, Op::mul, Op::div, Op::exp, Op::select, Op::maximum, Op::lt})
      for (int64_t length : {1, 17, 67})
        // The f64 result may round to the other neighbour where f32 falls on a tie.
        check_region(one_op(op, dtype, {length}), "elementwise",
                     {.relative = dtype == DType::bf16 ? 8e-3 : 1e-3}, info(op).low, info(op).high);
  // (x * x) - x * x is not 0 in f32 if only the first product went through bf16.
  GraphEditor editor("round");
  Value x = editor.input("x", {DType::bf16, {67}});
  Value square = editor.add(Op::mul, {x, x});
  Value wide = editor.add(Op::convert, {square}, {{"to", DType::f32}});
  editor.output("inside", editor.add(Op::mul, {wide, wide}));
  editor.output("stored", square);
  GraphPtr graph = editor.finish();
  const Tensors inputs = random_inputs(*graph, 3);
  const Tensors outputs = LoopRunner(graph, "elementwise", loop_targets()[0])(inputs);
  for (size_t i = 0; i < 67; ++i) {
    const double stored = outputs.at("stored").data[i];
    EXPECT_EQ(outputs.at("inside").data[i], static_cast<float>(stored * stored));
  }
}

TEST(LoopElementwise, Integers) {
  for (DType dtype : {DType::i32, DType::i8, DType::u8})
    for (int64_t length : {1, 19, 67}) {
      GraphEditor editor("integers");
      Value x = editor.input("x", {dtype, {length}}), y = editor.input("y", {dtype, {length}});
      for (Op op : {Op::add, Op::sub, Op::mul, Op::maximum, Op::minimum, Op::lt, Op::le, Op::gt,
                    Op::ge, Op::eq, Op::ne})
        editor.output(op_name(op), editor.add(op, {x, y}));
      for (Op op : {Op::neg, Op::abs, Op::identity})
        editor.output(op_name(op), editor.add(op, {x}));
      editor.output("select", editor.add(Op::select, {editor.add(Op::lt, {x, y}), x, y}));
      check_region(editor.finish(), "elementwise", {.relative = 0}, dtype == DType::u8 ? 0 : -100,
                   100);
    }
  check_region(one_op(Op::div, DType::i32, {67}), "elementwise", {.relative = 0}, 1, 9);
}

TEST(LoopElementwise, IntegerDivisionDoesNotTrap) {
  GraphPtr graph = one_op(Op::div, DType::i32, {4});
  Tensors inputs;
  inputs["x0"] = {i32({4}), {7, -2147483648.0, -7, -2147483648.0}};
  inputs["x1"] = {i32({4}), {0, -1, 2, 0}};
  for (const Target& target : loop_targets())
    EXPECT_EQ(LoopRunner(graph, "elementwise", target)(inputs).at("y").data,
              (std::vector<double>{0, -2147483648.0, -3, 0}));
}

TEST(LoopElementwise, ConvertsBetweenAllTypes) {
  const std::vector<DType> types = {DType::f32, DType::bf16, DType::f16,    DType::i32,
                                    DType::i8,  DType::u8,   DType::boolean};
  for (DType from : types)
    for (DType to : types) {
      GraphEditor editor("convert");
      Value x = editor.input("x", {from, {37}});
      editor.output("y", editor.add(Op::convert, {x}, {{"to", to}}));
      const bool rounds = to == DType::bf16 || to == DType::f16;
      check_region(editor.finish(), "elementwise", {.relative = rounds ? 4e-3 : 0.0},
                   from == DType::u8 ? 0 : -120, 300, 5);
    }
}

TEST(LoopElementwise, NanAndInfinityKeepTheirMeaning) {
  const double nan = NAN, inf = INFINITY;
  for (Op op : {Op::maximum, Op::minimum, Op::add, Op::mul, Op::lt, Op::eq, Op::ne, Op::ge}) {
    GraphPtr graph = one_op(op, DType::f32, {9});
    Tensors inputs;
    inputs["x0"] = {f32({9}), {nan, 1, nan, inf, -inf, inf, 0, -1, 1}};
    inputs["x1"] = {f32({9}), {1, nan, nan, 1, 1, -inf, inf, -1, 2}};
    const Tensors expected = interpret(*graph, inputs);
    for (const Target& target : loop_targets())
      EXPECT_TRUE(close(LoopRunner(graph, "elementwise", target)(inputs), expected)) << op_name(op);
  }
}

TEST(LoopElementwise, BroadcastOfEveryPattern) {
  const Shape full = {3, 5, 18};
  for (int pattern = 0; pattern < 8; ++pattern) {
    Shape shape = full;
    for (int axis = 0; axis < 3; ++axis)
      if (pattern >> axis & 1) shape[axis] = 1;
    Builder b("broadcast");
    Tensor x = b.input("x", f32(full)), y = b.input("y", f32(shape));
    b.output("sum", add(x, y));
    b.output("explicit", mul(broadcast(y, full), y));
    check_region(b.finish(), "elementwise", kOneOp);
  }
}

TEST(LoopElementwise, ScalarsAndOutputsOfSeveralShapes) {
  Builder b("scalars");
  Tensor x = b.input("x", f32({7, 33})), rate = b.input("rate", f32({}));
  b.output("scaled", mul(x, rate));
  b.output("square", mul(rate, rate));
  b.output("part", slice(x, {2, 3}, {5, 21}));
  b.output("constant", b.constant(0.25, f32({5})));
  check_region(b.finish(), "elementwise", kOneOp);
}

TEST(LoopElementwise, Iota) {
  for (int64_t axis : {0, 1, 2}) {
    Builder b("iota");
    Tensor x = b.input("x", f32({3, 4, 21}));
    Tensor index = b.iota(axis, i32({3, 4, 21}));
    b.output("index", index);
    b.output("mask", select(lt(index, b.constant(2, i32({}))), x, b.constant(0)));
    b.output("position", mul(b.iota(axis, f32({3, 4, 21})), 0.5));
    check_region(b.finish(), "elementwise", kOneOp);
  }
}

TEST(LoopElementwise, AdamWInPlace) {
  for (Shape shape : {Shape{1}, Shape{13, 67}, Shape{128, 321}}) {
    Builder b("adamw");
    Tensor p = b.input("p", f32(shape)), g = b.input("g", f32(shape)), m = b.input("m", f32(shape)),
           v = b.input("v", f32(shape));
    std::vector<Tensor> inputs = {p, g, m, v};
    for (const char* name : {"rate", "c1", "c2", "factor"})
      inputs.push_back(b.input(name, f32({})));
    auto updated = b.add(Op::adamw, inputs,
                         {{"beta1", 0.9}, {"beta2", 0.95}, {"eps", 1e-8}, {"weight_decay", 0.1}},
                         Where::current());
    b.output("p", updated[0]);
    b.output("m", updated[1]);
    b.output("v", updated[2]);
    GraphPtr region = lowered(b.finish());
    const std::vector<InPlace> pairs = {{0, 0}, {2, 1}, {3, 2}};
    const Tensors values = random_inputs(*region, 4, 0.1, 2);
    const Tensors expected = interpret(*region, values);
    for (const Target& target : loop_targets()) {
      const Tensors apart = LoopRunner(region, "elementwise", target)(values);
      const Tensors in_place =
          LoopRunner(region, "elementwise", target, {.in_place = pairs, .split = 3})(values);
      // p - rate * step cancels, so that its error is one of the operands' size, up to 30.
      EXPECT_TRUE(close(apart, expected, {.relative = 2e-6, .absolute = 6e-6}));
      EXPECT_EQ(apart, in_place);
    }
  }
}

TEST(LoopElementwise, InPlaceNeedsEqualAccess) {
  Builder b("access");
  Tensor x = b.input("x", f32({4, 4})), y = b.input("y", f32({4, 4})), z = b.input("z", f32({4}));
  b.output("a", add(transpose(x, {1, 0}), y));
  b.output("b", add(y, z));
  b.output("c", convert(y, DType::i32));
  GraphPtr region = b.finish();
  const auto make = [&](InPlace pair) {
    make_loop_kernel(region, Schedule::elementwise, host_target(), {pair});
  };
  EXPECT_THROW(make({0, 0}), InternalError) << "transposed";
  EXPECT_NO_THROW(make({1, 0}));
  EXPECT_NO_THROW(make({1, 1}));
  EXPECT_THROW(make({2, 1}), InternalError) << "another shape";
  EXPECT_THROW(make({1, 2}), InternalError) << "another dtype";
}

TEST(LoopElementwise, F64IsRefused) {
  GraphPtr graph = one_op(Op::add, DType::f64, {4});
  try {
    make_loop_kernel(graph, Schedule::elementwise, loop_targets()[0]);
    FAIL() << "f64 was compiled";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "[codegen] add gives f64[4], but compiled arithmetic is f32 and i32. Convert it "
                 "to f32, or run the program with the interpreter.");
  }
}

}  // namespace
}  // namespace weir::test
