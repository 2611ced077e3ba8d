// print and parse are inverse to each other on every op, on random graphs and on a model at every
// stage; each of these graphs obeys the rules of its stage.
#include <gtest/gtest.h>

#include <set>

#include "ir/edit.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "models/llama.h"
#include "passes/compose/train.h"
#include "passes/pipeline.h"
#include "testing/random_graph.h"
#include "testing/small_model.h"

namespace weir {
namespace {

void expect_round_trip(const GraphPtr& graph) {
  std::string text = print_graph(*graph);
  GraphPtr parsed = parse_graph(text);
  EXPECT_TRUE(*parsed == *graph) << text << "became\n" << print_graph(*parsed);
  EXPECT_EQ(print_graph(*parsed), text);
  verify(*parsed);
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
  Model model = build_llama(test::small_model(), 2, 5);
  for (const std::string& name : stage_names()) {
    SCOPED_TRACE(name);
    CompileOptions options = to_stage(*parse_stage(name));
    options.gradients = {"*"};
    GraphPtr graph = run_pipeline(model.graph, options).graph;
    ASSERT_EQ(graph->stage(), options.stop);
    expect_round_trip(graph);
  }
}

TEST(RoundTrip, ATrainingStepWithProbesAtEveryStage) {
  Model model = build_llama({.layers = 1,
                             .d_model = 16,
                             .heads = 2,
                             .kv_heads = 1,
                             .d_head = 8,
                             .d_ff = 24,
                             .vocabulary = 11},
                            2, 8);
  std::vector<ResolvedProbe> probes = resolve_probes(
      model.graph, parse_probe_requests({"blocks.*.attn.hook_v.grad : batch_sum, norm(feature)",
                                         "blocks.*.attn.hook_pattern : column_mass"}));
  CompileOptions options = to_stage(Stage::differentiated);
  options.gradients = {"*"};
  options.probes = {"blocks.*.attn.hook_v.grad : batch_sum, norm(feature)",
                    "blocks.*.attn.hook_pattern : column_mass"};
  GraphPtr gradients = run_pipeline(model.graph, options).graph;
  for (int64_t micro_batches : {1, 2}) {
    TrainingPrograms programs =
        make_training_programs(gradients, {.micro_batches = micro_batches, .probes = probes});
    for (const GraphPtr& program :
         {programs.step, programs.prepare, programs.micro, programs.finish})
      for (Stage stage : {Stage::instrumented, Stage::lowered, Stage::fused, Stage::planned})
        if (program) expect_round_trip(run_pipeline(program, to_stage(stage)).graph);
  }
}

}  // namespace
}  // namespace weir
