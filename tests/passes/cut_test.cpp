#include "passes/cut.h"

#include <gmock/gmock.h>

#include "models/llama.h"
#include "passes/autodiff.h"
#include "passes/pass_test_util.h"
#include "testing/small_model.h"

namespace weir {
namespace {

GraphPtr chain() {
  Builder b("chain");
  Tensor x = b.input("x", f32({2, 3})), w = b.state("w", f32({3})), u = b.state("u", f32({3}));
  Tensor before = (x * w).named("before");
  exp(before).named("aside");
  Tensor middle = tanh(before).named("middle");
  relu(middle).named("shown");
  (middle + x).named("reaches_back");
  b.output("loss", reshape(reduce_sum(middle * u, {0, 1}), {}));
  return b.finish();
}

TEST(Cut, KeepsWhatLiesBehind) {
  const GraphPtr graph = chain();
  const GraphPtr rest = cut(graph, {{*graph->find("middle"), "m"}});
  EXPECT_EQ(print_graph(*rest, {.names = false}),
            "graph chain (u: f32[3] state, m: f32[2,3]) stage=built\n"
            "  A = relu m : f32[2,3]\n"
            "  B = mul m, u : f32[2,3]\n"
            "  C = reduce_sum B {axes=[0,1]} : f32[1,1]\n"
            "  D = reshape C {shape=[]} : f32[]\n"
            "  return loss = D\n");
  // Names before the cut, and those that need more than is there, are gone.
  EXPECT_EQ(rest->find("middle"), rest->find_input("m"));
  for (const char* name : {"before", "aside", "reaches_back"}) EXPECT_FALSE(rest->find(name));
}

TEST(Cut, NothingToCutLeavesTheProgram) {
  const GraphPtr graph = chain();
  const GraphPtr same = cut(graph, {});
  expect_same_results(*graph, *same, 0);
  EXPECT_EQ(same->inputs().size(), 3u);
}

TEST(Cut, TheRestOfAModelGivesItsLossAndGradients) {
  const GraphPtr model = build_llama(test::small_model(3), 2, 5).graph;
  const std::string at = "blocks.1.hook_resid_pre", hook = "blocks.1.attn.hook_z";
  const Tensors inputs = test::random_inputs(*model, 1, -0.4, 0.4);
  const Interpretation whole =
      interpret_all(*differentiate(model, {.named = {hook}}), inputs, {at, hook + ".grad"});

  const GraphPtr rest = cut(model, {{*model->find(at), at}});
  EXPECT_FALSE(rest->find_input("tokens"));
  EXPECT_FALSE(rest->find_input("model.layers.0.self_attn.q_proj.weight"));
  EXPECT_TRUE(rest->find_input("model.layers.1.self_attn.q_proj.weight"));
  Tensors given;
  for (int32_t id : rest->inputs())
    if (inputs.contains(rest->input_name(id)))
      given[rest->input_name(id)] = inputs.at(rest->input_name(id));
  given[at] = whole.values.at(at);
  const Interpretation part =
      interpret_all(*differentiate(rest, {.named = {hook}}), given, {hook + ".grad"});
  EXPECT_EQ(part.outputs.at("loss"), whole.outputs.at("loss"));
  EXPECT_TRUE(test::close(part.values, {{hook + ".grad", whole.values.at(hook + ".grad")}},
                          {.relative = 1e-12}));
}

TEST(WithUpstream, GivesTheGradientThatIsAskedFor) {
  const GraphPtr graph = chain();
  const Value middle = *graph->find("middle");
  const GraphPtr loss = with_upstream(graph, middle, "up");
  const GraphPtr gradient = differentiate(loss, {.named = {"middle"}});
  Tensors inputs = test::random_inputs(*loss, 3);
  const Interpretation result = interpret_all(*gradient, inputs, {"middle.grad"});
  EXPECT_EQ(result.values.at("middle.grad").data, inputs.at("up").data);
  // The old loss is gone, and so is what it alone needs once the graph is cut.
  EXPECT_EQ(loss->outputs().size(), 1u);
  EXPECT_FALSE(cut(loss, {})->find_input("u"));
}

TEST(Cut, Errors) {
  const GraphPtr graph = chain();
  const Value middle = *graph->find("middle");
  EXPECT_EQ(user_error_of([&] { cut(graph, {{middle, "m"}, {middle, "n"}}); }),
            "[cut] the value of input n is a point of the cut twice. Name it once.");
  EXPECT_EQ(user_error_of([&] { cut(with_stage(graph, Stage::lowered), {}); }),
            "[cut] graph chain is lowered already; a cut comes before the gradient. Give the graph "
            "as it was built.");
  EXPECT_THAT(user_error_of([&] { cut(graph, {{middle, "u"}}); }),
              testing::HasSubstr("an input named u exists already."));
  Builder b("whole_numbers");
  b.output("y", b.input("n", i32({2})));
  const GraphPtr whole = b.finish();
  EXPECT_EQ(user_error_of([&] { with_upstream(whole, *whole->find_output("y"), "up"); }),
            "[cut] up is asked to be the gradient of a value i32[2], which has none.");
}

}  // namespace
}  // namespace weir
