// print and parse are inverse to each other on every op, on random graphs and on a model at every
// stage.
#include <gtest/gtest.h>

#include <set>

#include "ir/edit.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "models/llama.h"
#include "passes/pipeline.h"
#include "testing/random_graph.h"

namespace weir {
namespace {

void expect_round_trip(const GraphPtr& graph) {
  std::string text = print_graph(*graph);
  GraphPtr parsed = parse_graph(text);
  EXPECT_TRUE(*parsed == *graph) << text << "became\n" << print_graph(*parsed);
  EXPECT_EQ(print_graph(*parsed), text);
}

CompileOptions to_stage(Stage stage) {
  CompileOptions options;
  options.target = parse_target("x86-64-v3");
  options.stop = stage;
  return options;
}

TEST(RoundTrip, RandomGraphsOfAllOps) {
  std::set<Op> seen;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    GraphPtr graph = test::random_graph(seed, 20);
    for (const Node& node : graph->nodes()) seen.insert(node.op);
    expect_round_trip(graph);
    if (testing::Test::HasFailure()) return;
  }
  for (Op op : all_ops()) {
    bool later = op == Op::kernel || op == Op::probe;  // of later stages than the generator's
    EXPECT_TRUE(later || seen.contains(op)) << op_name(op) << " was never made";
  }
}

TEST(RoundTrip, RandomGraphsAtEveryStage) {
  for (uint64_t seed = 0; seed < 10; ++seed)
    for (Stage stage : {Stage::lowered, Stage::fused, Stage::planned})
      expect_round_trip(run_pipeline(test::random_graph(seed, 12), to_stage(stage)).graph);
}

TEST(RoundTrip, AModelAtEveryStage) {
  Model model = build_llama({.layers = 2,
                             .d_model = 16,
                             .heads = 4,
                             .kv_heads = 2,
                             .d_head = 4,
                             .d_ff = 24,
                             .vocabulary = 11},
                            2, 5);
  for (const std::string& name : stage_names()) {
    SCOPED_TRACE(name);
    CompileOptions options = to_stage(*parse_stage(name));
    options.gradients = {"*"};
    GraphPtr graph = run_pipeline(model.graph, options).graph;
    ASSERT_EQ(graph->stage(), options.stop);
    expect_round_trip(graph);
  }
}

}  // namespace
}  // namespace weir
