#include "passes/simplify.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <functional>
#include <random>

#include "models/llama.h"
#include "passes/decompose.h"
#include "passes/pass_test_util.h"

namespace weir {
namespace {

// Simplified until it stays, at a stage where every rule may run.
GraphPtr settled(GraphPtr graph, SimplifyStats* stats = nullptr) {
  while (true) {
    GraphPtr next = simplify(graph, stats);
    if (next == graph) return graph;
    graph = next;
  }
}

struct Case {
  std::string rule;
  std::function<Tensor(Builder&, const Tensor&)> formula;  ///< of x: f32[2,3,4]
  std::string after;                                       ///< body without the return line
};

std::vector<Case> cases() {
  using B = Builder&;
  using T = const Tensor&;
  const std::string same = "";
  return {
      {"gradient_only", [](B, T x) { return straight_through(stop_gradient(identity(x)), exp(x)); },
       same},
      {"fold_constants", [](B b, T x) { return x * exp(b.constant(2) * 0.0 + 0.5); },
       "  A = constant {value=1.6487212707001282} : f32[]\n  B = mul x, A : f32[2,3,4]\n"},
      {"move_constant", [](B b, T x) { return x * transpose(b.constant(3, f32({3, 2})), {1, 0}); },
       ""},
      {"scalar_constant", [](B b, T x) { return x * b.constant(3, f32({2, 3, 4})); },
       "  A = constant {value=3} : f32[]\n  B = mul x, A : f32[2,3,4]\n"},
      {"implicit_broadcast", [](B, T x) { return x * broadcast(reduce_sum(x, {2}), {2, 3, 4}); },
       "  A = reduce_sum x {axes=[2]} : f32[2,3,1]\n  B = mul x, A : f32[2,3,4]\n"},
      {"add_zero", [](B, T x) { return x + -0.0; }, same},
      {"sub_zero", [](B, T x) { return x - 0.0; }, same},
      {"mul_one", [](B, T x) { return 1.0 * x; }, same},
      {"mul_minus_one", [](B, T x) { return x * -1.0; }, "  A = neg x : f32[2,3,4]\n"},
      {"div_one", [](B, T x) { return x / 1.0; }, same},
      {"div_power_of_two", [](B, T x) { return x / 8.0; },
       "  A = constant {value=0.125} : f32[]\n  B = mul x, A : f32[2,3,4]\n"},
      {"neg_neg", [](B, T x) { return -(-x); }, same},
      {"add_neg", [](B, T x) { return -x + exp(x); },
       "  A = exp x : f32[2,3,4]\n  B = sub A, x : f32[2,3,4]\n"},
      {"sub_neg", [](B, T x) { return exp(x) - (-x); },
       "  A = exp x : f32[2,3,4]\n  B = add x, A : f32[2,3,4]\n"},
      {"mul_neg", [](B, T x) { return 3.0 * -x; },
       "  A = constant {value=-3} : f32[]\n  B = mul x, A : f32[2,3,4]\n"},
      {"abs_neg", [](B, T x) { return abs(-abs(x)); }, "  A = abs x : f32[2,3,4]\n"},
      {"same_operands", [](B, T x) { return maximum(x, minimum(x, x)); }, same},
      {"not_not",
       [](B, T x) {
         Tensor condition = logical_not(logical_not(gt(x, 0.5)));
         return select(condition, x, neg(x));
       },
       "  A = constant {value=0.5} : f32[]\n  B = gt x, A : bool[2,3,4]\n"
       "  C = neg x : f32[2,3,4]\n  D = select B, x, C : f32[2,3,4]\n"},
      {"select_constant", [](B b, T x) { return select(lt(b.constant(1), 2.0), x, exp(x)); }, same},
      {"select_same", [](B, T x) { return select(gt(x, 0.0), x, x); }, same},
      {"select_not",
       [](B, T x) {
         Tensor condition = logical_not(gt(x, 0.5));
         return select(condition, x, neg(x));
       },
       "  A = constant {value=0.5} : f32[]\n  B = gt x, A : bool[2,3,4]\n"
       "  C = neg x : f32[2,3,4]\n  D = select B, C, x : f32[2,3,4]\n"},
      {"convert_same", [](B, T x) { return convert(x, DType::f32); }, same},
      {"convert_convert", [](B, T x) { return convert(convert(x, DType::f64), DType::f32); }, same},
      {"same_shape",
       [](B, T x) {
         return concat(
             {pad(slice(broadcast(reshape(x, {2, 3, 4}), {2, 3, 4}), {0, 0, 0}, {2, 3, 4}),
                  {0, 0, 0}, {0, 0, 0})},
             0);
       },
       same},
      {"twice_moved", [](B, T x) { return reshape(reshape(x, {24}), {2, 3, 4}); }, same},
      {"transpose_identity", [](B, T x) { return transpose(x, {0, 1, 2}); }, same},
      {"transpose_transpose", [](B, T x) { return transpose(transpose(x, {1, 2, 0}), {2, 0, 1}); },
       same},
      {"transpose_of_ones", [](B, T x) { return transpose(reduce_sum(x, {1}), {1, 0, 2}); },
       "  A = reduce_sum x {axes=[1]} : f32[2,1,4]\n  B = reshape A {shape=[1,2,4]} : "
       "f32[1,2,4]\n"},
      {"slice_slice",
       [](B, T x) { return slice(slice(x, {0, 1, 1}, {2, 3, 4}), {1, 0, 1}, {2, 2, 3}); },
       "  A = slice x {limits=[2,3,4], starts=[1,1,2]} : f32[1,2,2]\n"},
      {"reduce_ones", [](B, T x) { return reduce_sum(reduce_max(x, {0, 1}), {0, 1}); },
       "  A = reduce_max x {axes=[0,1]} : f32[1,1,4]\n"},
      {"operand_order", [](B, T x) { return (exp(x) + x) * (x + exp(x)); },
       "  A = exp x : f32[2,3,4]\n  B = add x, A : f32[2,3,4]\n  C = mul B, B : f32[2,3,4]\n"},
  };
}

TEST(Simplify, EveryRuleDoesWhatItsRowSays) {
  std::set<std::string> tested;
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.rule);
    tested.insert(c.rule);
    if (c.rule == "move_constant") continue;  // below: it needs another shape of x
    Builder b("g");
    Tensor x = b.input("x", f32({2, 3, 4}));
    b.output("y", c.formula(b, x));
    GraphPtr before = with_stage(b.finish(), Stage::differentiated);
    SimplifyStats stats;
    GraphPtr after = settled(before, &stats);
    std::string body = body_of(*after);
    EXPECT_EQ(body.substr(0, body.find("  return")), c.after) << body;
    expect_same_results(*before, *after, 0);
    for (size_t i = 0; i < stats.hits.size(); ++i)
      EXPECT_TRUE(simplify_rules()[i].name != c.rule || stats.hits[i] > 0);
  }
  for (const SimplifyRuleInfo& rule : simplify_rules())
    EXPECT_TRUE(tested.contains(rule.name)) << rule.name;
}

TEST(Simplify, ConstantsMove) {
  Builder b("g");
  Tensor x = b.input("x", f32({2, 3}));
  Tensor c = reshape(slice(transpose(b.constant(3, f32({3, 4})), {1, 0}), {0, 0}, {2, 3}), {3, 2});
  b.output("y", x * reshape(broadcast(c, {1, 3, 2}), {2, 3}));
  EXPECT_EQ(body_of(*settled(b.finish())),
            "  A = constant {value=3} : f32[]\n  B = mul x, A : f32[2,3]\n  return y = B\n");
}

TEST(Simplify, SignedZeroDecidesAboutAddingZero) {
  Builder b("g");
  Tensor x = b.input("x", f32({2}));
  b.output("may_be_negative_zero", x + 0.0);
  b.output("never", exp(x) + 0.0);
  b.output("minus_negative_zero", x - -0.0);
  GraphPtr after = settled(b.finish());
  EXPECT_EQ(after->node(*after->find_output("may_be_negative_zero")).op, Op::add);
  EXPECT_EQ(after->node(*after->find_output("never")).op, Op::exp);
  EXPECT_EQ(after->node(*after->find_output("minus_negative_zero")).op, Op::sub);
}

// Compiled code flushes a negative sum or product below the smallest normal number to -0.
TEST(Simplify, WhatMayBeFlushedToNegativeZeroKeepsItsAddedZero) {
  Builder b("g");
  Tensor x = b.input("x", f32({2, 2}));
  const auto op_of = [&](const Tensor& sum) {
    Builder& builder = sum.builder();
    const std::string name = fmt::format("y{}", builder.graph().outputs().size());
    builder.output(name, sum + 0.0);
    return name;
  };
  const std::string mixed = op_of(abs(x) + x), product = op_of(matmul(abs(x), abs(x))),
                    both = op_of(abs(x) + exp(x)), square = op_of(x * x + sigmoid(x)),
                    counted = op_of(convert(convert(x, DType::i32), DType::f32));
  const GraphPtr before = b.finish(), after = settled(before);
  const auto adds_zero = [&](const std::string& name) {
    const Node& node = after->node(*after->find_output(name));
    return node.op == Op::add && (after->node(node.inputs[0]).op == Op::constant ||
                                  after->node(node.inputs[1]).op == Op::constant);
  };
  EXPECT_TRUE(adds_zero(mixed));
  EXPECT_TRUE(adds_zero(product));
  EXPECT_FALSE(adds_zero(both));
  EXPECT_FALSE(adds_zero(square));
  EXPECT_FALSE(adds_zero(counted));
  expect_same_results(*before, *after, 0);
}

TEST(Simplify, DoesNotFoldWhatTheProgramWantsRounded) {
  Builder b("g");
  Tensor tenth = convert(b.constant(0.1), DType::bf16),
         quarter = convert(b.constant(0.25), DType::bf16);
  b.output("tenth", convert(tenth, DType::f32));
  b.output("quarter", convert(quarter, DType::f32));
  b.output("nan", log(b.constant(-1)));
  GraphPtr before = b.finish(), after = settled(before);
  EXPECT_EQ(after->node(*after->find_output("tenth")).op, Op::convert);
  EXPECT_EQ(after->node(*after->find_output("quarter")).op, Op::constant);
  EXPECT_EQ(after->node(*after->find_output("nan")).op, Op::log);
  expect_same_results(*before, *after, 0);
}

TEST(Simplify, ConvertingThroughANarrowTypeStays) {
  Builder b("g");
  Tensor x = b.input("x", f32({2}));
  b.output("y", convert(convert(x, DType::bf16), DType::f32));
  GraphPtr before = b.finish();
  EXPECT_EQ(simplify(before), before);
}

TEST(Simplify, KeepsWhatABuiltGraphNeedsForItsGradients) {
  Builder b("g");
  Tensor x = b.input("x", f32({2}));
  Tensor branch = identity(x).named("ln1.hook_in");
  Tensor scaled = (branch * 1.0).named("hook_scaled");
  b.output("y", straight_through(scaled, x) + stop_gradient(x) * 1.0);
  GraphPtr built = b.finish(), after = settled(built);
  EXPECT_EQ(count_ops(*after, Op::identity), 1);
  EXPECT_EQ(count_ops(*after, Op::straight_through), 1);
  EXPECT_EQ(count_ops(*after, Op::stop_gradient), 1);
  EXPECT_NE(*after->find("ln1.hook_in"), *after->find("hook_scaled"));
  GraphPtr later = settled(with_stage(built, Stage::differentiated));
  EXPECT_EQ(*later->find("ln1.hook_in"), *later->find_input("x"));
  EXPECT_EQ(*later->find("hook_scaled"), *later->find_input("x"));
  EXPECT_EQ(body_of(*later), "  A = add x, x : f32[2]\n  return y = A\n");
}

TEST(Simplify, IsIdempotentAndKeepsTheMeaningOfAModel) {
  GraphPtr model = build_llama({.layers = 2,
                                .d_model = 8,
                                .heads = 2,
                                .kv_heads = 1,
                                .d_head = 4,
                                .d_ff = 12,
                                .vocabulary = 3},
                               2, 5)
                       .graph;
  GraphPtr before = decompose(with_stage(model, Stage::instrumented), DecomposeMode::all);
  GraphPtr after = settled(before);
  EXPECT_LT(after->size(), before->size());
  EXPECT_EQ(simplify(after), after);
  for (const auto& [name, value] : before->names()) EXPECT_TRUE(after->find(name)) << name;
  expect_same_results(*before, *after);
}

TEST(Simplify, RandomExpressionsKeepTheirMeaning) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    auto pick = [&](size_t n) { return static_cast<size_t>(random() % n); };
    Builder b("random");
    std::vector<Tensor> pool = {b.input("x", f32({2, 3, 4})),
                                b.input("y", f32({1, 3, 1})),
                                b.constant(1),
                                b.constant(-1),
                                b.constant(0),
                                b.constant(-0.0),
                                b.constant(2, f32({2, 3, 4}))};
    for (int i = 0; i < 40; ++i) {
      Tensor p = pool[pick(pool.size())], q = pool[pick(pool.size())];
      int64_t rank = p.type().rank();
      switch (pick(12)) {
        case 0:
          pool.push_back(p + q);
          break;
        case 1:
          pool.push_back(p - q);
          break;
        case 2:
          pool.push_back(p * q);
          break;
        case 3:
          pool.push_back(p / q);
          break;
        case 4:
          pool.push_back(neg(p));
          break;
        case 5:
          pool.push_back(abs(p));
          break;
        case 6:
          pool.push_back(maximum(p, q));
          break;
        case 7:
          pool.push_back(select(lt(p, q), p, q));
          break;
        case 8:
          pool.push_back(broadcast(p, {2, 3, 4}));
          break;
        case 9:
          pool.push_back(tanh(p));
          break;
        case 10:
          if (rank == 3) pool.push_back(reduce_sum(p, {1}));
          break;
        default:
          if (rank == 3 && p.shape() == Shape{2, 3, 4})
            pool.push_back(transpose(transpose(p, {0, 2, 1}), {0, 2, 1}));
          break;
      }
    }
    for (size_t i = 7; i < pool.size(); ++i) b.output("o" + std::to_string(i), pool[i]);
    GraphPtr before = with_stage(b.finish(), Stage::differentiated), after = settled(before);
    expect_same_results(*before, *after, 0);
    EXPECT_EQ(simplify(after), after);
  }
}

}  // namespace
}  // namespace weir
