// Every differentiable row of ops.def against finite differences of the interpreter.
#include <gtest/gtest.h>

#include "ir/builder.h"
#include "passes/autodiff.h"
#include "passes/autodiff_rules.h"
#include "testing/finite_difference.h"
#include "testing/random_tensor.h"

namespace weir {
namespace {

using test::gradients_match;
using test::random_inputs;

// The operands and attributes with which an op is tried; no shapes: the op has no gradient of its
// own to test (its row in gradient_rule says so, or a test below is about it).
struct Sample {
  std::vector<Type> operands;
  Attrs attrs;
};

std::vector<Sample> samples_of(Op op) {
  using Ints = std::vector<int64_t>;
  const Type m = f32({3, 4}), row = f32({1, 4}), column = f32({3, 1}), v = f32({4});
  const Type q = f32({2, 5, 4, 6}), kv = f32({2, 5, 2, 6}), keys = f32({2, 7, 2, 6});
  const Type rows = f32({6, 5});
  switch (op) {
    case Op::identity:
    case Op::neg:
    case Op::abs:
    case Op::exp:
    case Op::log:
    case Op::sqrt:
    case Op::rsqrt:
    case Op::tanh:
    case Op::sigmoid:
    case Op::sin:
    case Op::cos:
    case Op::erf:
    case Op::relu:
    case Op::silu:
    case Op::softmax:
      return {{{m}, {}}, {{f32({2, 1, 3})}, {}}};
    case Op::gelu:
      return {{{m}, {}}, {{m}, {{"exact", true}}}};
    case Op::convert:
      return {{{m}, {{"to", DType::f64}}}};
    case Op::add:
    case Op::sub:
    case Op::mul:
    case Op::div:
    case Op::pow:
    case Op::maximum:
    case Op::minimum:
    case Op::swiglu:
      return {{{m, m}, {}},       {{m, row}, {}},      {{column, m}, {}},        {{v, m}, {}},
              {{m, f32({})}, {}}, {{column, row}, {}}, {{f32({2, 1, 4}), m}, {}}};
    case Op::select:
      return {{{{DType::boolean, {3, 4}}, m, row}, {}},
              {{{DType::boolean, {4}}, column, f32({})}, {}}};
    case Op::reduce_sum:
    case Op::reduce_max:
    case Op::reduce_min:
    case Op::reduce_mean:
      return {{{m}, {{"axes", Ints{1}}}},
              {{m}, {{"axes", Ints{0}}}},
              {{f32({2, 3, 4})}, {{"axes", Ints{0, 2}}}}};
    case Op::broadcast:
      return {{{column}, {{"shape", Ints{3, 4}}}},
              {{v}, {{"shape", Ints{2, 3, 4}}}},
              {{f32({})}, {{"shape", Ints{2, 2}}}},
              {{f32({2, 1, 3, 1})}, {{"shape", Ints{2, 4, 3, 2}}}}};
    case Op::reshape:
      return {{{m}, {{"shape", Ints{2, 6}}}}, {{f32({1, 1})}, {{"shape", Ints{}}}}};
    case Op::transpose:
      return {{{m}, {{"permutation", Ints{1, 0}}}},
              {{f32({2, 3, 4})}, {{"permutation", Ints{2, 0, 1}}}}};
    case Op::slice:
      return {{{m}, {{"starts", Ints{1, 0}}, {"limits", Ints{3, 2}}}}};
    case Op::pad:
      return {{{m}, {{"low", Ints{1, 0}}, {"high", Ints{0, 2}}}}};
    case Op::concat:
      return {{{m, f32({3, 1}), m}, {{"axis", 1}}}, {{m, row}, {{"axis", 0}}}};
    case Op::matmul: {
      std::vector<Sample> all;
      for (bool ta : {false, true})
        for (bool tb : {false, true}) {
          Attrs attrs;
          if (ta) attrs.set("transpose_a", true);
          if (tb) attrs.set("transpose_b", true);
          for (const Shape& batch : {Shape{}, Shape{2}, Shape{2, 3}}) {
            Shape a = batch, b = batch, c = batch;
            for (int64_t n : ta ? Ints{5, 4} : Ints{4, 5}) a.push_back(n);
            for (int64_t n : tb ? Ints{3, 5} : Ints{5, 3}) b.push_back(n);
            for (int64_t n : {4, 3}) c.push_back(n);
            all.push_back({{f32(a), f32(b)}, attrs});
            all.push_back({{f32(a), f32(b), f32(c)}, attrs});
            if (!batch.empty()) all.push_back({{f32(a), f32({b.end()[-2], b.back()})}, attrs});
          }
        }
      return all;
    }
    case Op::embedding:
      return {{{f32({5, 3}), i32({2, 4})}, {}}, {{f32({4, 3}), i32({7})}, {}}};
    case Op::rms_norm:
      return {{{m, v}, {{"eps", 1e-5}}}, {{f32({2, 3, 4}), v}, {{"eps", 0.1}}}};
    case Op::layer_norm:
      return {{{m, v}, {{"eps", 1e-5}}}, {{f32({2, 3, 4}), v, v}, {{"eps", 0.1}}}};
    case Op::rope:
      return {
          {{q}, {{"base", 100.0}}},
          {{q}, {{"base", 100.0}, {"inverse", true}}},
          {{q},
           {{"base", 100.0},
            {"factor", 8.0},
            {"low", 1.0},
            {"high", 4.0},
            {"context", int64_t{12}}}},
          {{q}, {{"base", 100.0}, {"factor", 3.0}}},
          {{q},
           {{"base", 100.0}, {"factor", 8.0}, {"begin", 0.0}, {"end", 1.5}, {"amplitude", 1.25}}}};
    case Op::attention: {
      std::vector<Sample> all = {
          {{q, q, q}, {{"causal", true}, {"scale", 0.4}}},
          {{q, kv, kv}, {{"causal", true}, {"scale", 0.4}}},
          {{q, keys, keys}, {{"causal", false}, {"scale", 0.4}}},
          {{q, kv, kv}, {{"causal", true}, {"scale", 0.4}, {"normalizer", "softmax-1"}}},
          {{q, keys, keys}, {{"causal", false}, {"scale", 4.0}, {"normalizer", "softmax-1"}}},
          {{q, kv, kv}, {{"causal", true}, {"scale", 0.4}, {"cap", 0.3}}},
          {{q, keys, keys},
           {{"causal", false}, {"scale", -2.0}, {"cap", 1.5}, {"normalizer", "softmax-1"}}}};
      for (const char* normalizer : {"softpick", "relu", "sigmoid"}) {
        const Attrs attrs{{"causal", true}, {"scale", 0.4}, {"normalizer", normalizer}};
        Attrs capped{{"causal", false}, {"scale", -2.0}, {"normalizer", normalizer}, {"cap", 1.5}};
        all.push_back({{q, kv, kv}, attrs});
        all.push_back({{q, keys, keys}, capped});
      }
      // The score of another key has a gradient, too.
      const Type by_query = f32({q.shape[0], q.shape[2], q.shape[1]});
      all.push_back({{q, kv, kv, by_query},
                     {{"causal", true}, {"scale", 0.4}, {"normalizer", "sink-logit"}}});
      all.push_back(
          {{q, keys, keys, by_query},
           {{"causal", false}, {"scale", -2.0}, {"cap", 1.5}, {"normalizer", "kv-bias"}}});
      return all;
    }
    case Op::attention_head_gate:  // of rows, in attention_rewrites_test.cpp
      return {};
    case Op::v_scale:
      return {{{kv}, {{"c", 0.7}, {"variant", "full"}}},
              {{kv, f32({2})}, {{"c", 0.7}, {"variant", "full"}}}};
    case Op::cross_entropy:
      return {{{rows, i32({6}), f32({})}, {}}, {{rows, i32({6}), f32({})}, {{"cap", 1.5}}}};
    case Op::linear_cross_entropy:
      return {{{f32({6, 3}), f32({5, 3}), i32({6}), f32({})}, {}},
              {{f32({6, 3}), f32({5, 3}), i32({6}), f32({})}, {{"cap", 0.8}}}};

    case Op::straight_through:  // its gradient is not that of its value
    case Op::input:
    case Op::constant:
    case Op::iota:
    case Op::stop_gradient:
    case Op::round:
    case Op::random_bits:
    case Op::logical_not:
    case Op::logical_and:
    case Op::logical_or:
    case Op::lt:
    case Op::le:
    case Op::gt:
    case Op::ge:
    case Op::eq:
    case Op::ne:
    case Op::embedding_grad:
    case Op::attention_lse:
    case Op::attention_grad:
    case Op::attention_score_grad:
    case Op::attention_scores:
    case Op::attention_stats:
    case Op::attention_map:
    case Op::attention_identities:
    case Op::attention_pattern:
    case Op::linear_cross_entropy_grad:
    case Op::adamw:
    case Op::sgd:
    case Op::muon:
    case Op::probe:
    case Op::kernel:
      return {};
  }
  return {};
}

// loss = sum(op(operands) * weights), so that every element of the result has its own gradient.
GraphPtr weighted_sum(Op op, const Sample& sample, std::vector<std::string>& wrt) {
  Builder b(op_name(op));
  std::vector<Tensor> operands;
  for (size_t i = 0; i < sample.operands.size(); ++i) {
    std::string name = "x" + std::to_string(i);
    operands.push_back(b.input(name, sample.operands[i]));
    if (is_float(sample.operands[i].dtype)) wrt.push_back(name);
  }
  std::vector<Type> types = sample.operands;
  Builder scratch("shape");
  std::vector<Tensor> shapes;
  for (const Type& type : types)
    shapes.push_back(scratch.input("x" + std::to_string(shapes.size()), type));
  Type result = scratch.add(op, shapes, sample.attrs, Where::current())[0].type();
  Tensor weights = b.input("weights", result);
  Tensor weighted = b.add(op, operands, sample.attrs, Where::current())[0] * weights;
  std::vector<int64_t> axes;
  for (int64_t i = 0; i < result.rank(); ++i) axes.push_back(i);
  Tensor loss = axes.empty() ? weighted : reshape(reduce_sum(weighted, axes), {});
  b.output("loss", loss);
  return b.finish();
}

class EveryOp : public ::testing::TestWithParam<Op> {};

TEST_P(EveryOp, MatchesFiniteDifferences) {
  Op op = GetParam();
  uint64_t seed = 1;
  for (const Sample& sample : samples_of(op)) {
    std::vector<std::string> wrt;
    GraphPtr graph = weighted_sum(op, sample, wrt);
    GraphPtr differentiated = differentiate(graph, {.wrt = wrt});
    std::map<std::string, std::string> gradients;
    for (const std::string& name : wrt) gradients[name] = gradient_output(name);
    Tensors inputs = random_inputs(*graph, seed++, info(op).low, info(op).high);
    EXPECT_TRUE(gradients_match(*differentiated, inputs, gradients))
        << op_name(op) << " " << to_string(sample.attrs) << " on " << to_string(sample.operands[0]);
  }
}

std::vector<Op> differentiable_ops() {
  std::vector<Op> ops;
  for (Op op : all_ops())
    if (!samples_of(op).empty()) ops.push_back(op);
  return ops;
}

INSTANTIATE_TEST_SUITE_P(Autodiff, EveryOp, ::testing::ValuesIn(differentiable_ops()),
                         [](const auto& parameter) { return op_name(parameter.param); });

// A row whose gradient is a rule or a decomposition has a sample above, and no other row has.
TEST(AutodiffRules, EveryRuleHasASample) {
  for (Op op : all_ops()) {
    GradientKind kind = gradient_rule(op).kind;
    bool differentiable = kind == GradientKind::rule || kind == GradientKind::decompose ||
                          op == Op::linear_cross_entropy;
    if (op == Op::straight_through || op == Op::linear_cross_entropy_grad) continue;
    // Its gradient at rows is one at their log-sum-exp: of the whole way it is tested in
    // attention_rewrites_test.cpp and bayes_softmax_test.cpp.
    if (op == Op::attention_head_gate) continue;
    EXPECT_EQ(!samples_of(op).empty(), differentiable) << op_name(op);
    bool has_no_gradient = kind == GradientKind::missing && op != Op::kernel;
    if (has_no_gradient && op != Op::linear_cross_entropy) {
      EXPECT_TRUE(info(op).has(op_trait::NoGradient)) << op_name(op);
    }
  }
}

}  // namespace
}  // namespace weir
