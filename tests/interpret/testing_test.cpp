// The shared test helpers themselves: they must find what is wrong, and only that.
#include <gmock/gmock.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "interpret/interpret.h"
#include "ir/builder.h"
#include "ir/print.h"
#include "testing/expect_close.h"
#include "testing/finite_difference.h"
#include "testing/random_graph.h"
#include "testing/random_tensor.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

TEST(ExpectClose, FollowsTheRule) {
  HostTensor expected{f32({3}), {1000, 1, 0}};
  auto moved = [&](double a, double b, double c) {
    return HostTensor{f32({3}), {1000 + a, 1 + b, c}};
  };
  // Elements below a thousandth of the largest are held to its tolerance: 1e-3 here.
  EXPECT_TRUE(test::close(moved(0.9, 0.0009, 0.0009), expected, {.relative = 1e-3}));
  EXPECT_FALSE(test::close(moved(1.1, 0, 0), expected, {.relative = 1e-3}));
  EXPECT_FALSE(test::close(moved(0, 0.0011, 0), expected, {.relative = 1e-3}));
  EXPECT_FALSE(test::close(moved(0, 0, 0.0011), expected, {.relative = 1e-3}));
  EXPECT_THAT(test::difference(moved(0, 0.5, 0), expected, {}),
              HasSubstr("1 of 3 elements of f32[3] differ; the worst, element 1, is 1.5"));
}

TEST(ExpectClose, KnowsNaNInfinityAndTypes) {
  HostTensor special{f32({3}), {NAN, INFINITY, 1}};
  EXPECT_TRUE(test::close(special, special));
  EXPECT_FALSE(test::close(HostTensor{f32({3}), {0, INFINITY, 1}}, special));
  EXPECT_FALSE(test::close(HostTensor{f32({3}), {NAN, -INFINITY, 1}}, special));
  EXPECT_FALSE(test::close(HostTensor{f32({3}), {NAN, INFINITY, NAN}}, special));
  EXPECT_FALSE(test::close(HostTensor{f32({3, 1}), special.data}, special));
  EXPECT_THAT(test::difference(Tensors{{"b", special}}, Tensors{{"a", special}}, {}),
              ::testing::AllOf(HasSubstr("a: missing"), HasSubstr("b: not expected")));
}

TEST(RandomTensor, StaysInItsDomainAndRepeats) {
  HostTensor x = test::random_tensor(f32({1000}), 0.1, 4, 7);
  EXPECT_EQ(x, test::random_tensor(f32({1000}), 0.1, 4, 7));
  EXPECT_FALSE(x == test::random_tensor(f32({1000}), 0.1, 4, 8));
  for (double value : x.data) {
    EXPECT_GE(value, 0.1f);
    EXPECT_LE(value, 4);
    EXPECT_EQ(value, static_cast<float>(value));
  }
  HostTensor ids = test::random_tensor(i32({1000}), -1, 2, 7);
  EXPECT_EQ(std::set<double>(ids.data.begin(), ids.data.end()), (std::set<double>{-1, 0, 1, 2}));
}

TEST(RandomInputs, KeepIdsInTheSmallestVocabulary) {
  Builder b("g");
  Tensor table = b.input("table", f32({3, 2})), logits = b.input("logits", f32({40, 9}));
  Tensor ids = b.input("ids", i32({40})), targets = b.input("targets", i32({2, 20}));
  b.output("rows", embedding(table, reshape(ids, {8, 5})));
  b.output("l0", cross_entropy(logits, ids, b.constant(1)));
  b.output("l1", cross_entropy(logits, reshape(targets, {40}), b.constant(1)));
  Tensors inputs = test::random_inputs(*b.finish(), 1);
  auto range = [&](const char* name) {
    auto [low, high] =
        std::minmax_element(inputs.at(name).data.begin(), inputs.at(name).data.end());
    return std::pair(*low, *high);
  };
  EXPECT_EQ(range("ids"), std::pair(0.0, 2.0));
  EXPECT_EQ(range("targets"), std::pair(-1.0, 8.0));
}

GraphPtr square_with_gradient(double factor) {
  Builder b("g");
  Tensor x = b.input("x", f32({4}));
  b.output("loss", reshape(reduce_sum(x * x * x, {0}), {}));
  b.output("x.grad", factor * (x * x));
  return b.finish();
}

TEST(GradientsMatch, AcceptsTheRightGradientAlone) {
  Tensors inputs{{"x", {f32({4}), {1, -2, 0.5, 3}}}};
  std::map<std::string, std::string> gradients{{"x", "x.grad"}};
  EXPECT_TRUE(test::gradients_match(*square_with_gradient(3), inputs, gradients));
  EXPECT_FALSE(test::gradients_match(*square_with_gradient(3.00001), inputs, gradients));
  Tensors flat{{"x", zeros(f32({4}))}};
  ::testing::AssertionResult zero =
      test::gradients_match(*square_with_gradient(3), flat, gradients);
  EXPECT_FALSE(zero);
  EXPECT_THAT(zero.message(), HasSubstr("x.grad is zero in every element"));
}

TEST(RandomGraph, CoversTheTable) {
  std::set<Op> seen;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const GraphPtr graph = test::random_graph(seed, 12);
    for (const Node& node : graph->nodes()) seen.insert(node.op);
  }
  for (Op op : all_ops()) {
    OpClass op_class = info(op).op_class;
    bool later = op_class == OpClass::Effect || op_class == OpClass::Kernel;
    EXPECT_TRUE(later || seen.count(op)) << op_name(op);
  }
}

TEST(RandomGraph, FewerNodesGiveAPartOfIt) {
  GraphPtr large = test::random_graph(5, 12), small = test::random_graph(5, 6);
  ASSERT_LT(small->size(), large->size());
  // The last nodes of the smaller one update the state; all others are the larger one's.
  for (int32_t id = 0; id < small->size() - 12; ++id)
    EXPECT_EQ(small->node(id).op, large->node(id).op) << id;
}

TEST(RandomGraph, ValuesAreFiniteAndSmall) {
  test::check_random_graphs(
      [](const GraphPtr& graph, const Tensors& inputs) -> std::string {
        for (const auto& [name, tensor] : interpret(*graph, inputs))
          for (double value : tensor.data)
            if (!(std::abs(value) < 1e6)) return name + " is not small";
        return "";
      },
      {.graphs = 300});
}

TEST(RandomGraph, DifferentiableOnesAreSmooth) {
  test::GraphOptions options{.differentiable = true, .loss = true};
  for (uint64_t seed = 0; seed < 100; ++seed) {
    GraphPtr graph = test::random_graph(seed, 10, options);
    EXPECT_TRUE(graph->find_output("loss"));
    for (const Node& node : graph->nodes())
      EXPECT_FALSE(info(node.op).has(op_trait::NoGradient)) << op_name(node.op);
  }
}

GraphPtr swap_first_sub(const GraphPtr& graph) {
  return rewrite(graph, [](Rewriter& r, int32_t id) -> std::optional<std::vector<Value>> {
    const Node& node = r.old().node(id);
    if (node.op != Op::sub || node.inputs[0] < node.inputs[1]) return std::nullopt;
    return std::vector{r.add(Op::sub, {r[node.inputs[1]], r[node.inputs[0]]})};
  });
}

TEST(CheckPass, AcceptsARightPassAndShrinksAWrongOne) {
  test::check_pass_preserves_meaning([](const GraphPtr& graph) { return live_graph(graph, true); });
  const test::PropertyOptions many{.graphs = 400};  // so that some have a difference to swap
  EXPECT_NONFATAL_FAILURE(test::check_pass_preserves_meaning(swap_first_sub, many),
                          "random_graph(seed ");
}

}  // namespace
}  // namespace weir
