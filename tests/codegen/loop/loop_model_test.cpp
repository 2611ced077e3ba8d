// The loop kernels that fusion really makes: those of a model's training step, and of random
// programs with their gradients.
#include <fmt/format.h>

#include <algorithm>

#include "codegen/loop/loop_test_util.h"
#include "ir/edit.h"
#include "ir/print.h"
#include "models/llama.h"
#include "passes/pipeline.h"
#include "testing/random_graph.h"

namespace weir::test {
namespace {

struct LoopCounts {
  int elementwise = 0, row = 0, column = 0;
};

/// "" when every loop kernel of the fused graph gives what the interpreter gives.
std::string check_kernels(const Graph& fused, const Target& target, LoopCounts& counts) {
  std::vector<std::string> seen;
  for (const Node& node : fused.nodes()) {
    if (node.op != Op::kernel) continue;
    const std::string& schedule = node.attrs.get_string("schedule");
    const std::string key = structural_key(*node.region);
    if (!anchors_of(schedule_of(node)).empty() ||
        std::find(seen.begin(), seen.end(), key) != seen.end())
      continue;
    seen.push_back(key);
    (schedule == "row" ? counts.row : schedule == "column" ? counts.column : counts.elementwise)++;
    const Tensors inputs = random_inputs(*node.region, seen.size(), 0.2, 1.5);
    const LoopRunner run(node.region, schedule, target);
    const Tensors all = run(inputs);
    const std::string wrong =
        difference(all, interpret(*node.region, inputs), {.relative = 2e-4, .absolute = 2e-5});
    if (!wrong.empty())
      return fmt::format("on {}, {}: {}\n{}", target.name, schedule, wrong,
                         print_graph(*node.region));
  }
  return "";
}

/// The fused program of a graph and its gradients, without probes.
GraphPtr fused_program(const GraphPtr& graph, CompileOptions options) {
  options.stop = Stage::differentiated;
  GraphPtr differentiated = run_pipeline(graph, options).graph;
  options.stop = Stage::fused;
  return run_pipeline(with_stage(differentiated, Stage::instrumented), options).graph;
}

/// The floating-point inputs that the output `loss` depends on.
std::vector<std::string> inputs_of_loss(const Graph& graph) {
  std::vector<bool> reached(graph.size());
  reached[graph.find_output("loss")->node] = true;
  std::vector<std::string> names;
  for (int32_t id = graph.size() - 1; id >= 0; --id) {
    if (!reached[id]) continue;
    const Node& node = graph.node(id);
    for (Value operand : node.inputs) reached[operand.node] = true;
    if (node.op == Op::input && is_float(node.types[0].dtype))
      names.push_back(graph.input_name(id));
  }
  return names;
}

TEST(LoopModel, TrainingStep) {
  GraphPtr model = build_llama({.layers = 2,
                                .d_model = 48,
                                .heads = 3,
                                .kv_heads = 1,
                                .d_head = 16,
                                .d_ff = 40,
                                .vocabulary = 29},
                               2, 9)
                       .graph;
  for (const Target& target : loop_targets())
    for (VScaleVariant variant : {VScaleVariant::none, VScaleVariant::full}) {
      LoopCounts counts;
      GraphPtr fused = fused_program(
          model,
          {.target = target, .gradients = {"*"}, .rewrites = {.v_scale = {.variant = variant}}});
      EXPECT_EQ(check_kernels(*fused, target, counts), "");
      EXPECT_GT(counts.elementwise, 1);
      EXPECT_GT(counts.row, 1);
      EXPECT_GT(counts.column, 0);
    }
}

TEST(LoopModel, RandomProgramsWithGradients) {
  const std::vector<Target> targets = loop_targets();
  LoopCounts counts;
  int number = 0;
  check_random_graphs(
      [&](const GraphPtr& graph, const Tensors&) -> std::string {
        const Target& target = targets[++number % targets.size()];
        GraphPtr fused = fused_program(graph, {.target = target,
                                               .gradients = inputs_of_loss(*graph),
                                               .decompose = DecomposeMode::all});
        return check_kernels(*fused, target, counts);
      },
      {.graph = {.differentiable = true, .loss = true}, .graphs = 20, .nodes = 10});
  EXPECT_GT(counts.elementwise, 20);
  EXPECT_GT(counts.row, 10);
  EXPECT_GT(counts.column, 10);
}

}  // namespace
}  // namespace weir::test
