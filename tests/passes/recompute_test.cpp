#include "passes/recompute.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "ir/print.h"
#include "models/llama.h"
#include "passes/compose/train.h"
#include "passes/loss_head.h"
#include "passes/pass_test_util.h"
#include "passes/pipeline.h"
#include "passes/plan_memory.h"
#include "testing/small_model.h"

namespace weir {
namespace {

constexpr int64_t kLayers = 6;

// Loss and all gradients of a small model, as kernels.
GraphPtr fused_gradients(const std::vector<std::string>& probes = {}, int64_t layers = kLayers,
                         int64_t batch = 2) {
  CompileOptions options;
  options.stop = Stage::fused;
  options.gradients = {"*"};
  options.probes = probes;
  return run_pipeline(build_llama(test::small_model(layers), batch, 7).graph, options).graph;
}

int64_t arena(const GraphPtr& fused) { return memory_need(*plan_memory(fused)).arena; }

int64_t kernels(const Graph& graph, const std::string& schedule) {
  int64_t count = 0;
  for (const Node& node : graph.nodes())
    count += node.op == Op::kernel && node.attrs.get_string("schedule") == schedule;
  return count;
}

TEST(Recompute, SmallProgramsKeepEverything) {
  GraphPtr graph = fused_gradients();
  EXPECT_EQ(recompute(graph), graph);
}

TEST(Recompute, NormalisedInputsAndTheSwigluProductAreNotKept) {
  GraphPtr graph = fused_gradients(), again = recompute(graph, {.worth_it = 0});

  EXPECT_GE(kernels(*again, "elementwise") - kernels(*graph, "elementwise"), 3 * (kLayers - 1));
  EXPECT_EQ(kernels(*again, "matmul"), kernels(*graph, "matmul"));
  EXPECT_LT(arena(again), arena(graph));
  expect_same_results(*graph, *again, 0);
}

// A copy leaves results of its original that nothing reads any more.
TEST(Recompute, NothingIsStoredThatNobodyReads) {
  const GraphPtr again = recompute(fused_gradients(), {.worth_it = 0});
  std::set<Value> read;
  for (const Node& node : again->nodes()) read.insert(node.inputs.begin(), node.inputs.end());
  for (const Output& output : again->outputs()) read.insert(output.value);
  for (int32_t id = 0; id < again->size(); ++id)
    for (size_t r = 0; r < again->node(id).types.size(); ++r)
      EXPECT_TRUE(again->node(id).op != Op::kernel || read.contains({id, static_cast<int32_t>(r)}))
          << print_node(*again, id);
}

// The SwiGLU product, made in the epilogue of a product that is kept, comes back without it.
TEST(Recompute, AnEpilogueIsComputedAgainWithoutItsProduct) {
  const GraphPtr graph = fused_gradients(), again = recompute(graph, {.worth_it = 0});
  const auto sigmoids = [](const Graph& fused, const char* schedule) {
    return std::count_if(fused.nodes().begin(), fused.nodes().end(), [&](const Node& node) {
      if (node.op != Op::kernel || node.attrs.get_string("schedule") != schedule) return false;
      const std::vector<Node>& inner = node.region->nodes();
      return std::any_of(inner.begin(), inner.end(),
                         [](const Node& one) { return one.op == Op::sigmoid; });
    });
  };
  EXPECT_EQ(sigmoids(*graph, "elementwise"), 0);
  EXPECT_EQ(sigmoids(*again, "elementwise"), kLayers - 1);  // the last is used at the peak
  EXPECT_EQ(sigmoids(*again, "matmul"), sigmoids(*graph, "matmul"));
}

TEST(Recompute, ALimitBringsProductsBack) {
  GraphPtr graph = fused_gradients(), cheap = recompute(graph, {.worth_it = 0});
  GraphPtr least = recompute(graph, {.memory = 1, .worth_it = 0});
  EXPECT_GT(kernels(*least, "matmul"), kernels(*cheap, "matmul"));
  EXPECT_EQ(kernels(*least, "attention"), kernels(*cheap, "attention"));
  EXPECT_LT(arena(least), arena(cheap));
  expect_same_results(*graph, *least, 0);
  // A limit between the two is met without computing everything again.
  const MemoryNeed need = memory_need(*plan_memory(cheap));
  const int64_t limit = need.total() - (arena(cheap) - arena(least)) / 2;
  GraphPtr between = recompute(graph, {.memory = limit, .worth_it = 0});
  EXPECT_LT(kernels(*between, "matmul"), kernels(*least, "matmul"));
  EXPECT_GT(kernels(*between, "matmul"), kernels(*cheap, "matmul"));
}

// Groups of values meet a limit as single ones do, and take little more than it needs.
TEST(Recompute, ALimitIsMetInGroups) {
  const GraphPtr graph = fused_gradients({}, 24, 32);
  const GraphPtr cheap = recompute(graph, {.worth_it = 0});
  const GraphPtr least = recompute(graph, {.memory = 1, .worth_it = 0});
  RecomputeStats single, grouped;
  const MemoryNeed need = memory_need(*plan_memory(cheap));
  const int64_t limit = need.total() - (arena(cheap) - arena(least)) * 9 / 10;
  const GraphPtr exact =
      recompute(graph, {.memory = limit, .worth_it = 0, .trials = 1000}, &single);
  const GraphPtr rough = recompute(graph, {.memory = limit, .worth_it = 0, .trials = 4}, &grouped);
  EXPECT_LT(grouped.trials * 2, single.trials);
  EXPECT_LE(memory_need(*plan_memory(rough)).total(), limit);
  EXPECT_GT(kernels(*rough, "matmul"), kernels(*cheap, "matmul"));
  const auto products = [&](const GraphPtr& made) {
    return kernels(*made, "matmul") - kernels(*cheap, "matmul");
  };
  EXPECT_LE(products(rough) * 10, products(exact) * 11);
  expect_same_results(*graph, *rough, 0);
}

TEST(Recompute, TheWorkForALimitGrowsAsTheProgram) {
  const auto work = [](int64_t layers) {
    RecomputeStats stats;
    recompute(fused_gradients({}, layers, 32), {.memory = 1, .worth_it = 0, .trials = 8}, &stats);
    return stats;
  };
  const RecomputeStats half = work(20), whole = work(40);
  EXPECT_GT(half.trials, 4);
  EXPECT_LE(whole.trials, 3 * 8);
  EXPECT_GT(half.costs, 20);
  EXPECT_LE(whole.costs, half.costs * 5 / 2);
}

// New values of states take no room of their own, so many of them do not hide what is kept.
TEST(Recompute, ALimitIsMetBesideTheOptimizersStates) {
  CompileOptions options;
  options.stop = Stage::differentiated;
  options.gradients = {"*"};
  const GraphPtr gradients =
      run_pipeline(build_llama(test::small_model(kLayers), 2, 7).graph, options).graph;
  const GraphPtr step =
      run_pipeline(make_training_programs(gradients, {}).step, {.stop = Stage::fused}).graph;
  const auto saved = [](const GraphPtr& graph) {
    return arena(recompute(graph, {.worth_it = 0})) -
           arena(recompute(graph, {.memory = 1, .worth_it = 0}));
  };
  EXPECT_GE(saved(step), saved(fused_gradients()));
}

TEST(Recompute, ProbesDoNotChangeWhatIsComputedAgain) {
  GraphPtr plain = fused_gradients();
  GraphPtr probed = fused_gradients(
      {"blocks.*.ln1.hook_normalized : norm(feature)", "blocks.*.mlp.hook_post : norm(feature)"});
  const auto added = [](const GraphPtr& graph, const char* schedule) {
    return kernels(*recompute(graph, {.worth_it = 0}), schedule) - kernels(*graph, schedule);
  };
  for (const char* schedule : {"row", "elementwise", "matmul"})
    EXPECT_EQ(added(plain, schedule), added(probed, schedule)) << schedule;
}

}  // namespace
}  // namespace weir
