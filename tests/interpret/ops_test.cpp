// Each op on values computed by hand, and the rules at the edges: NaN, ties, integers,
// broadcasting.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "interpret/interpret.h"
#include "ir/edit.h"
#include "support/error.h"
#include "testing/expect_close.h"
#include "testing/random_tensor.h"
#include "testing/run_op.h"

namespace weir {
namespace {

using test::run_op;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ints = std::vector<int64_t>;

HostTensor vec(std::vector<double> data) {
  Type type = f32({static_cast<int64_t>(data.size())});
  return {type, std::move(data)};
}
HostTensor ints(std::vector<double> data, DType dtype = DType::i32) {
  return {{dtype, {static_cast<int64_t>(data.size())}}, std::move(data)};
}
std::vector<double> apply(Op op, const std::vector<HostTensor>& operands, const Attrs& attrs = {}) {
  return run_op(op, operands, attrs)[0].data;
}

// What each float elementwise row means, written a second time. bool results are 0 or 1.
const std::map<Op, std::function<double(double, double)>>& formulas() {
  static const std::map<Op, std::function<double(double, double)>> map = {
      {Op::identity, [](double x, double) { return x; }},
      {Op::stop_gradient, [](double x, double) { return x; }},
      {Op::neg, [](double x, double) { return 0 - x; }},
      {Op::abs, [](double x, double) { return x < 0 ? -x : x; }},
      {Op::exp, [](double x, double) { return std::pow(M_E, x); }},
      {Op::log, [](double x, double) { return std::log2(x) * M_LN2; }},
      {Op::sqrt, [](double x, double) { return std::pow(x, 0.5); }},
      {Op::rsqrt, [](double x, double) { return std::pow(x, -0.5); }},
      {Op::tanh, [](double x, double) { return std::sinh(x) / std::cosh(x); }},
      {Op::sigmoid, [](double x, double) { return std::exp(x) / (std::exp(x) + 1); }},
      {Op::sin, [](double x, double) { return 2 * std::sin(x / 2) * std::cos(x / 2); }},
      {Op::cos, [](double x, double) { return 1 - 2 * std::pow(std::sin(x / 2), 2); }},
      {Op::erf, [](double x, double) { return 1 - std::erfc(x); }},
      {Op::round,
       [](double x, double) {
         const double below = std::floor(x), rest = x - below;
         const bool up = rest > 0.5 || (rest == 0.5 && std::fmod(below, 2) != 0);
         return up ? below + 1 : below;
       }},
      {Op::add, [](double x, double y) { return x - -y; }},
      {Op::sub, [](double x, double y) { return -(y - x); }},
      {Op::mul, [](double x, double y) { return y == 0 ? 0 : x / (1 / y); }},
      {Op::div, [](double x, double y) { return x * std::pow(y, -1); }},
      {Op::pow, [](double x, double y) { return std::exp(y * std::log(x)); }},
      {Op::maximum, [](double x, double y) { return (x + y + std::abs(x - y)) / 2; }},
      {Op::minimum, [](double x, double y) { return (x + y - std::abs(x - y)) / 2; }},
      {Op::lt, [](double x, double y) { return y - x > 0; }},
      {Op::le, [](double x, double y) { return !(x > y); }},
      {Op::gt, [](double x, double y) { return x - y > 0; }},
      {Op::ge, [](double x, double y) { return !(x < y); }},
      {Op::eq, [](double x, double y) { return !(x < y) && !(x > y); }},
      {Op::ne, [](double x, double y) { return x < y || x > y; }},
      {Op::straight_through, [](double x, double) { return x; }},
      {Op::relu, [](double x, double) { return x > 0 ? x : 0; }},
      {Op::silu, [](double x, double) { return x * (1 + std::tanh(x / 2)) / 2; }},
      {Op::swiglu, [](double x, double y) { return y * x * (1 + std::tanh(x / 2)) / 2; }},
      {Op::gelu,
       [](double x, double) {
         double inner =
             0.7978845608028654 * (x + 0.044715 * std::pow(std::abs(x), 3) * (x < 0 ? -1 : 1));
         return x / (1 + std::exp(-2 * inner));
       }},
  };
  return map;
}

// select, convert, random_bits and the logical ops take other dtypes and have tests of their own
// below.
TEST(InterpretOps, EveryElementwiseRowOnItsDomain) {
  for (Op op : all_ops()) {
    const OpInfo& row = info(op);
    bool other = op == Op::select || op == Op::convert || op == Op::random_bits ||
                 op == Op::logical_not || op == Op::logical_and || op == Op::logical_or;
    if ((row.op_class != OpClass::Elementwise && !formulas().count(op)) || other) continue;
    ASSERT_TRUE(formulas().count(op)) << op_name(op) << " has no formula here";
    std::vector<HostTensor> operands = {test::random_tensor(f32({5, 7}), row.low, row.high, 1)};
    if (row.inputs_min == 2)
      operands.push_back(test::random_tensor(f32({7}), row.low, row.high, 2));
    operands[0].data[3] = operands.back().data[3];  // a tie
    HostTensor actual = run_op(op, operands)[0], expected = actual;
    EXPECT_EQ(actual.type.dtype, row.has(op_trait::Comparison) ? DType::boolean : DType::f32);
    for (size_t i = 0; i < 35; ++i)
      expected.data[i] = formulas().at(op)(operands[0].data[i], operands.back().data[i % 7]);
    EXPECT_TRUE(test::close(actual, expected, {.relative = 1e-12})) << op_name(op);
  }
}

// The known answers of the authors' Random123 (kat_vectors, philox2x32 10).
TEST(InterpretOps, RandomBitsAreThoseOfPhilox) {
  const auto word = [](uint32_t bits) { return static_cast<double>(static_cast<int32_t>(bits)); };
  EXPECT_THAT(
      apply(Op::random_bits, {ints({0, -1, word(0x243f6a88)}), ints({0, -1, word(0x85a308d3)}),
                              ints({0, -1, word(0x13198a2e)})}),
      ElementsAre(word(0xff1dae59), word(0x2c3f628b), word(0xdd7ce038)));
}

TEST(InterpretOps, BroadcastFollowsNumPy) {
  HostTensor column{f32({2, 1}), {1, 2}}, row{f32({3}), {10, 20, 30}};
  HostTensor sum = run_op(Op::add, {column, row})[0];
  EXPECT_EQ(sum.type, f32({2, 3}));
  EXPECT_THAT(sum.data, ElementsAre(11, 21, 31, 12, 22, 32));
  HostTensor middle{f32({2, 1, 2}), {1, 2, 3, 4}}, plane{f32({2, 1}), {10, 20}};
  EXPECT_THAT(run_op(Op::mul, {middle, plane})[0].data,
              ElementsAre(10, 20, 20, 40, 30, 40, 60, 80));
  EXPECT_THAT(run_op(Op::sub, {scalar(5), scalar(2)})[0].data, ElementsAre(3));
}

TEST(InterpretOps, MaximumMinimumAndReductionsKeepNaN) {
  HostTensor x = vec({1, NAN, 3}), y = vec({2, 2, NAN});
  EXPECT_THAT(apply(Op::maximum, {x, y}), ElementsAre(2, ::testing::IsNan(), ::testing::IsNan()));
  EXPECT_THAT(apply(Op::minimum, {x, y}), ElementsAre(1, ::testing::IsNan(), ::testing::IsNan()));
  HostTensor rows{f32({3, 3}), {1, 5, 2, NAN, 1, 2, 1, NAN, 0}};
  for (Op op : {Op::reduce_max, Op::reduce_min}) {
    HostTensor result = run_op(op, {rows}, {{"axes", Ints{1}}})[0];
    EXPECT_EQ(result.type, f32({3, 1}));
    EXPECT_THAT(result.data,
                ElementsAre(op == Op::reduce_max ? 5 : 1, ::testing::IsNan(), ::testing::IsNan()));
  }
  EXPECT_TRUE(std::isnan(apply(Op::relu, {vec({NAN})})[0]));
  EXPECT_THAT(apply(Op::reduce_max, {vec({-INFINITY, -INFINITY})}, {{"axes", Ints{0}}}),
              ElementsAre(-INFINITY));
}

TEST(InterpretOps, ComparisonsWithNaNAreFalseButNotEqual) {
  HostTensor nan = vec({NAN}), one = vec({1});
  for (Op op : {Op::lt, Op::le, Op::gt, Op::ge, Op::eq})
    EXPECT_THAT(apply(op, {nan, one}), ElementsAre(0)) << op_name(op);
  EXPECT_THAT(apply(Op::ne, {nan, nan}), ElementsAre(1));
}

TEST(InterpretOps, PowAtTheEdgeOfItsDomain) {
  EXPECT_THAT(apply(Op::pow, {vec({0, 0, 0, 2}), vec({3, 0, -1, -2})}),
              ElementsAre(0, 1, INFINITY, 0.25));
  EXPECT_TRUE(std::isnan(apply(Op::pow, {vec({-2}), vec({2})})[0]));
}

TEST(InterpretOps, LogicAndSelect) {
  HostTensor x = ints({0, 0, 1, 1}, DType::boolean), y = ints({0, 1, 0, 1}, DType::boolean);
  EXPECT_THAT(apply(Op::logical_and, {x, y}), ElementsAre(0, 0, 0, 1));
  EXPECT_THAT(apply(Op::logical_or, {x, y}), ElementsAre(0, 1, 1, 1));
  EXPECT_THAT(apply(Op::logical_not, {x}), ElementsAre(1, 1, 0, 0));
  EXPECT_THAT(apply(Op::select, {x, vec({1, 2, 3, 4}), scalar(-1)}), ElementsAre(-1, -1, 3, 4));
  // The branch that is not taken may be anything.
  EXPECT_THAT(apply(Op::select, {x, vec({NAN, NAN, 3, 4}), scalar(0)}), ElementsAre(0, 0, 3, 4));
}

TEST(InterpretOps, IntegersAreExactAndWrap) {
  EXPECT_THAT(apply(Op::mul, {ints({65536, 46341, -3}), ints({65536, 46341, 7})}),
              ElementsAre(0, -2147479015, -21));
  EXPECT_THAT(apply(Op::add, {ints({2147483647}), ints({1})}), ElementsAre(-2147483648.0));
  EXPECT_THAT(apply(Op::div, {ints({7, -7}), ints({2, 2})}), ElementsAre(3, -3));
  EXPECT_THAT(apply(Op::sub, {ints({3}, DType::u8), ints({5}, DType::u8)}), ElementsAre(254));
  EXPECT_THAT(apply(Op::mul, {ints({100}, DType::i8), ints({2}, DType::i8)}), ElementsAre(-56));
  EXPECT_THAT(apply(Op::neg, {ints({-128}, DType::i8)}), ElementsAre(-128));
  EXPECT_THAT(apply(Op::reduce_sum, {ints({2147483647, 2})}, {{"axes", Ints{0}}}),
              ElementsAre(-2147483647));
  EXPECT_THAT(
      [] { apply(Op::div, {ints({5}), ints({0})}); },
      ::testing::ThrowsMessage<UserError>(HasSubstr("[div] the integer 5 is divided by 0.")));
}

TEST(InterpretOps, ConvertTruncatesSaturatesAndWraps) {
  auto to = [](DType dtype) { return Attrs{{"to", dtype}}; };
  EXPECT_THAT(apply(Op::convert, {vec({-2.7, 2.7, 1e10, NAN})}, to(DType::i32)),
              ElementsAre(-2, 2, 2147483647, 0));
  EXPECT_THAT(apply(Op::convert, {vec({-5, 300})}, to(DType::u8)), ElementsAre(0, 255));
  EXPECT_THAT(apply(Op::convert, {ints({-1, 300})}, to(DType::u8)), ElementsAre(255, 44));
  EXPECT_THAT(apply(Op::convert, {vec({0, -0.5, NAN})}, to(DType::boolean)), ElementsAre(0, 1, 1));
  EXPECT_THAT(apply(Op::convert, {ints({0, 1}, DType::boolean)}, to(DType::f32)),
              ElementsAre(0, 1));
}

TEST(InterpretOps, ReductionsOverAnyAxes) {
  HostTensor x{f32({2, 2, 3}), {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}};
  HostTensor middle = run_op(Op::reduce_sum, {x}, {{"axes", Ints{1}}})[0];
  EXPECT_EQ(middle.type, f32({2, 1, 3}));
  EXPECT_THAT(middle.data, ElementsAre(5, 7, 9, 17, 19, 21));
  EXPECT_THAT(apply(Op::reduce_sum, {x}, {{"axes", Ints{0, 2}}}), ElementsAre(30, 48));
  EXPECT_THAT(apply(Op::reduce_mean, {x}, {{"axes", Ints{0, 1, 2}}}), ElementsAre(6.5));
  EXPECT_THAT(apply(Op::reduce_min, {x}, {{"axes", Ints{2}}}), ElementsAre(1, 4, 7, 10));
  EXPECT_THAT(apply(Op::reduce_sum, {x}, {{"axes", Ints{2}}, {"lanes", int64_t{2}}}),
              ElementsAre(6, 15, 24, 33));
}

TEST(InterpretOps, Movement) {
  HostTensor x{f32({2, 3}), {1, 2, 3, 4, 5, 6}};
  EXPECT_THAT(apply(Op::transpose, {x}, {{"permutation", Ints{1, 0}}}),
              ElementsAre(1, 4, 2, 5, 3, 6));
  EXPECT_THAT(apply(Op::reshape, {x}, {{"shape", Ints{3, 2}}}), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(apply(Op::slice, {x}, {{"starts", Ints{0, 1}}, {"limits", Ints{2, 3}}}),
              ElementsAre(2, 3, 5, 6));
  EXPECT_THAT(apply(Op::pad, {vec({1, 2})}, {{"low", Ints{1}}, {"high", Ints{2}}}),
              ElementsAre(0, 1, 2, 0, 0));
  EXPECT_THAT(apply(Op::pad, {x}, {{"low", Ints{0, 1}}, {"high", Ints{1, 0}}}),
              ElementsAre(0, 1, 2, 3, 0, 4, 5, 6, 0, 0, 0, 0));
  EXPECT_THAT(apply(Op::broadcast, {vec({1, 2})}, {{"shape", Ints{2, 2}}}),
              ElementsAre(1, 2, 1, 2));
  HostTensor column{f32({2, 1}), {7, 8}};
  EXPECT_THAT(apply(Op::concat, {x, column, column}, {{"axis", int64_t{1}}}),
              ElementsAre(1, 2, 3, 7, 7, 4, 5, 6, 8, 8));
  HostTensor cube{f32({2, 1, 2}), {1, 2, 3, 4}};  // [i,j,k] -> [k,i,j]
  EXPECT_THAT(apply(Op::transpose, {cube}, {{"permutation", Ints{2, 0, 1}}}),
              ElementsAre(1, 3, 2, 4));
}

// Every combination of transposes and batch axes against the sum over k.
TEST(InterpretOps, MatmulIsTheSumOverTheInnerAxis) {
  const int64_t rows = 3, inner = 5, columns = 2, batch = 4;
  for (int mask = 0; mask < 16; ++mask) {
    bool ta = mask & 1, tb = mask & 2, batch_b = mask & 4, accumulate = mask & 8;
    Shape a_shape = ta ? Shape{batch, inner, rows} : Shape{batch, rows, inner};
    Shape b_shape = tb ? Shape{columns, inner} : Shape{inner, columns};
    if (batch_b) b_shape.insert(b_shape.begin(), batch);
    HostTensor a = test::random_tensor(f32(a_shape), -2, 2, 1);
    HostTensor b = test::random_tensor(f32(b_shape), -2, 2, 2);
    HostTensor c = test::random_tensor(f32({batch, rows, columns}), -2, 2, 3);
    HostTensor expected = accumulate ? c : zeros(c.type);
    for (int64_t n = 0; n < batch; ++n)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j)
          for (int64_t k = 0; k < inner; ++k) {
            double right = batch_b ? (tb ? b.at({n, j, k}) : b.at({n, k, j}))
                                   : (tb ? b.at({j, k}) : b.at({k, j}));
            expected.data[(n * rows + i) * columns + j] +=
                (ta ? a.at({n, k, i}) : a.at({n, i, k})) * right;
          }
    Attrs attrs;
    if (ta) attrs.set("transpose_a", true);
    if (tb) attrs.set("transpose_b", true);
    std::vector<HostTensor> operands = {a, b};
    if (accumulate) operands.push_back(c);
    EXPECT_TRUE(test::close(run_op(Op::matmul, operands, attrs)[0], expected)) << mask;
  }
}

TEST(InterpretOps, SourcesGiveTheirType) {
  GraphEditor editor("g");
  editor.output("iota", editor.iota(1, i32({2, 3})));
  editor.output("half", editor.constant(1.0 / 3, {DType::f16, {2}}));
  editor.output("whole", editor.constant(3, i32({})));
  Tensors out = interpret(*editor.finish(), {});
  EXPECT_THAT(out.at("iota").data, ElementsAre(0, 1, 2, 0, 1, 2));
  EXPECT_THAT(out.at("half").data, ElementsAre(0.333251953125, 0.333251953125));
  EXPECT_THAT(out.at("whole").data, ElementsAre(3));
}

TEST(InterpretOps, SgdByHand) {
  // g = 0.5 * 4 + 0.1 * 10 = 3; momentum = 0.9 * 2 + 3 = 4.8; p = 10 - 0.1 * 4.8.
  auto updated = run_op(Op::sgd, {vec({10}), vec({4}), vec({2}), scalar(0.1), scalar(0.5)},
                        {{"momentum", 0.9}, {"weight_decay", 0.1}});
  EXPECT_NEAR(updated[0].data[0], 9.52, 1e-12);
  EXPECT_NEAR(updated[1].data[0], 4.8, 1e-12);
}

TEST(InterpretOps, MuonByHand) {
  // One row has one singular value: its length is 1 after division, then s -> a s + b s^3 + c s^5
  // five times, whatever the gradient is. 0.2 sqrt(2) is the scale of a matrix of two columns.
  double s = 1;
  for (int i = 0; i < 5; ++i) s = 3.4445 * s - 4.7750 * s * s * s + 2.0315 * s * s * s * s * s;
  const HostTensor p{f32({1, 2}), {10, 20}}, g{f32({1, 2}), {30, 40}}, m = zeros(f32({1, 2}));
  const auto updated = run_op(Op::muon, {p, g, m, scalar(0.1), scalar(0.5)},
                              {{"momentum", 0.75}, {"weight_decay", 0.1}, {"scale", 0.2}});
  const double step = 0.1 * 0.2 * std::sqrt(2.0) * s;
  EXPECT_NEAR(updated[0].data[0], 10 * 0.99 - step * 0.6, 1e-12);
  EXPECT_NEAR(updated[0].data[1], 20 * 0.99 - step * 0.8, 1e-12);
  EXPECT_NEAR(updated[1].data[0], 0.25 * 15, 1e-12);
  // A gradient of zeros moves nothing.
  const auto still = run_op(Op::muon, {p, m, m, scalar(0.1), scalar(1)},
                            {{"momentum", 0.75}, {"weight_decay", 0.0}, {"scale", 0.2}});
  EXPECT_EQ(still[0].data, p.data);
}

TEST(InterpretOps, CausalAttentionOfOneHeadByHand) {
  // Query 0 sees key 0 alone; query 1 sees scores 0 and ln 3, hence weights 1/4 and 3/4.
  HostTensor q{f32({1, 2, 1, 1}), {5, std::log(3.0)}}, k{f32({1, 2, 1, 1}), {0, 1}};
  HostTensor v{f32({1, 2, 1, 1}), {8, 4}};
  Attrs attrs{{"causal", true}, {"scale", 1.0}};
  auto results = run_op(Op::attention, {q, k, v}, attrs);
  EXPECT_TRUE(test::close(results[0], HostTensor{f32({1, 2, 1, 1}), {8, 5}}));
  // Relative to the larger score of a query: 1, and 1/3 + 1.
  EXPECT_TRUE(
      test::close(results[1], HostTensor{f32({1, 1, 2, 2}), {0, std::log(3.0), 1, 4.0 / 3}}));
  HostTensor lse = run_op(Op::attention_lse, {results[1]}, {{"scale", 1.0}})[0];
  EXPECT_TRUE(test::close(lse, HostTensor{f32({1, 1, 2}), {0, std::log(4.0)}}));
  HostTensor pattern = run_op(Op::attention_pattern, {q, k, results[1]}, attrs)[0];
  EXPECT_TRUE(test::close(pattern, HostTensor{f32({1, 1, 2, 2}), {1, 0, 0.25, 0.75}}));
}

TEST(InterpretOps, CappedAttentionOfOneHeadByHand) {
  // The same scores, 0 and ln 3, of products that are bent by a cap of 2.
  HostTensor q{f32({1, 2, 1, 1}), {5, 2 * std::atanh(std::log(3.0) / 2)}};
  HostTensor k{f32({1, 2, 1, 1}), {0, 1}}, v{f32({1, 2, 1, 1}), {8, 4}};
  Attrs attrs{{"causal", true}, {"scale", 1.0}, {"cap", 2.0}};
  auto results = run_op(Op::attention, {q, k, v}, attrs);
  EXPECT_TRUE(test::close(results[0], HostTensor{f32({1, 2, 1, 1}), {8, 5}}));
  HostTensor lse = run_op(Op::attention_lse, {results[1]}, {{"scale", 1.0}, {"cap", 2.0}})[0];
  EXPECT_TRUE(test::close(lse, HostTensor{f32({1, 1, 2}), {0, std::log(4.0)}}));
  HostTensor scores = run_op(Op::attention_scores, {q, k}, attrs)[0];
  EXPECT_NEAR(scores.data[3], std::log(3.0), 1e-15);
  attrs.set("cap", 0.0);
  EXPECT_THAT([&] { run_op(Op::attention, {q, k, v}, attrs); },
              ::testing::ThrowsMessage<UserError>(
                  HasSubstr("cap is 0, but a number from 0.0001 to 1000000 is needed")));
}

TEST(InterpretOps, IgnoredTargetsCountNothingEvenIfTheirLogitsAreNaN) {
  HostTensor logits{f32({3, 2}), {0, std::log(3.0), NAN, NAN, 0, 0}};
  HostTensor targets = ints({1, -1, 0});
  EXPECT_NEAR(apply(Op::cross_entropy, {logits, targets, scalar(0.5)})[0],
              0.5 * (std::log(4.0 / 3) + std::log(2.0)), 1e-15);
  EXPECT_THAT([&] { apply(Op::cross_entropy, {logits, ints({1, -1, 2}), scalar(1)}); },
              ::testing::ThrowsMessage<UserError>(HasSubstr(
                  "[cross_entropy] id 2 at position [2] is outside the vocabulary of 2.")));
}

}  // namespace
}  // namespace weir
