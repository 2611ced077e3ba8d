// Autodiff and the later stages on random graphs.
#include "testing/random_graph.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "interpret/interpret.h"
#include "ir/edit.h"
#include "ir/verify.h"
#include "passes/autodiff.h"
#include "passes/decompose.h"
#include "passes/fuse.h"
#include "passes/lower.h"
#include "passes/plan_memory.h"
#include "passes/simplify.h"
#include "testing/finite_difference.h"

namespace weir {
namespace {

// The float inputs that the loss depends on.
std::vector<std::string> influencing_inputs(const Graph& graph) {
  std::vector<bool> needed(graph.size());
  needed[graph.find_output("loss")->node] = true;
  std::vector<std::string> names;
  for (int32_t id = graph.size() - 1; id >= 0; --id) {
    if (!needed[id]) continue;
    for (Value input : graph.node(id).inputs) needed[input.node] = true;
    if (graph.node(id).op == Op::input && is_float(graph.node(id).types[0].dtype))
      names.push_back(graph.input_name(id));
  }
  return names;
}

TEST(RandomGraphs, GradientsAreFiniteDifferences) {
  int nonzero = 0;
  test::check_random_graphs(
      [&](const GraphPtr& graph, const Tensors& inputs) -> std::string {
        std::vector<std::string> wrt = influencing_inputs(*graph);
        GraphPtr differentiated = differentiate(graph, {.wrt = wrt});
        std::map<std::string, std::string> gradients;
        for (const std::string& name : wrt) gradients[name] = gradient_output(name);
        // The gradient of a random graph may vanish, e.g. behind a softmax of one element.
        test::GradientCheck check{
            .tolerance = {.relative = 1e-6, .absolute = 1e-6}, .elements = 6, .may_be_zero = true};
        Tensors outputs = interpret(*differentiated, inputs);
        for (const auto& [input, output] : gradients)
          for (double value : outputs.at(output).data) nonzero += value != 0;
        ::testing::AssertionResult result =
            test::gradients_match(*differentiated, inputs, gradients, check);
        return result ? "" : result.message();
      },
      {.graph = {.differentiable = true, .loss = true}});
  EXPECT_GT(nonzero, 1000);
}

GraphPtr fused(const GraphPtr& graph) {
  GraphPtr primitives = decompose(with_stage(graph, Stage::instrumented), DecomposeMode::lower);
  return fuse(lower(simplify(primitives), {}));
}

const test::PropertyOptions kLaterStages{.idempotent = false, .graphs = 200, .nodes = 20};

TEST(RandomGraphs, FusedIsTheSameProgram) {
  test::check_pass_preserves_meaning(fused, kLaterStages);
}

TEST(RandomGraphs, PlannedIsTheSameProgram) {
  test::check_pass_preserves_meaning(
      [](const GraphPtr& graph) { return plan_memory(fused(graph)); }, kLaterStages);
}

// The lowered graph with a probe of every third value.
GraphPtr with_probes(const GraphPtr& lowered, int32_t first) {
  Rewriter rewriter(*lowered);
  for (int32_t id = 0; id < lowered->size(); ++id) {
    if (lowered->node(id).op != Op::input) rewriter.copy(id);
    if (id % 3 == first % 3)
      rewriter.add_node(Op::probe, {rewriter[{id, 0}]}, {{"id", fmt::format("p{}", id)}});
  }
  return rewriter.finish_copy();
}

TEST(RandomGraphs, ProbesOfAnyValueAreThatValue) {
  test::check_random_graphs(
      [](const GraphPtr& graph, const Tensors& inputs) -> std::string {
        const GraphPtr primitives =
            decompose(with_stage(graph, Stage::instrumented), DecomposeMode::lower);
        const GraphPtr lowered = lower(simplify(primitives), {});
        for (int32_t first = 0; first < 3; ++first) {
          const GraphPtr probed = with_probes(lowered, first), planned = plan_memory(fuse(probed));
          verify(*planned);
          const Interpretation expected = interpret_all(*probed, inputs),
                               found = interpret_all(*planned, inputs);
          std::string wrong = test::difference(found.probes, expected.probes, {});
          if (wrong.empty()) wrong = test::difference(found.outputs, expected.outputs, {});
          if (!wrong.empty()) return wrong;
        }
        return "";
      },
      {.graphs = 400, .nodes = 30});
}

}  // namespace
}  // namespace weir
