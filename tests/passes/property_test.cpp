// What must hold of every pass on any graph: the meaning stays, and a second run changes nothing.
#include "ir/edit.h"
#include "ir/print.h"
#include "models/llama.h"
#include "passes/dead_code.h"
#include "passes/decompose.h"
#include "passes/loss_head.h"
#include "passes/lower.h"
#include "passes/op_builder.h"
#include "passes/simplify.h"
#include "testing/random_graph.h"
#include "testing/small_model.h"

namespace weir {
namespace {

GraphPtr until_fixed(GraphPtr graph) {
  for (int round = 0; round < 100; ++round) {
    GraphPtr next = simplify(graph);
    if (next == graph) return graph;
    graph = next;
  }
  ADD_FAILURE() << "simplify does not settle";
  return graph;
}

GraphPtr at(const GraphPtr& graph, Stage stage) { return with_stage(graph, stage); }

TEST(Properties, SimplifyOfBuiltGraphs) { test::check_pass_preserves_meaning(until_fixed); }

TEST(Properties, SimplifyAfterGradients) {
  test::check_pass_preserves_meaning(
      [](const GraphPtr& graph) { return until_fixed(at(graph, Stage::differentiated)); });
}

TEST(Properties, DecomposeAll) {
  test::check_pass_preserves_meaning(
      [](const GraphPtr& graph) { return decompose(graph, DecomposeMode::all); });
}

TEST(Properties, LossHead) { test::check_pass_preserves_meaning(fuse_loss_head); }

TEST(Properties, DeadCode) { test::check_pass_preserves_meaning(dead_code); }

GraphPtr lowered(const GraphPtr& graph) {
  GraphPtr primitives = decompose(at(graph, Stage::instrumented), DecomposeMode::lower);
  return lower(until_fixed(primitives), parse_target("x86-64-v3"));
}

TEST(Properties, FromBuiltToLowered) { test::check_pass_preserves_meaning(lowered); }

// The graph with a probe of every named value: its sum of squares along the last axis.
GraphPtr with_probes(const GraphPtr& graph) {
  Rewriter rewriter(*graph);
  for (int32_t id = 0; id < graph->size(); ++id)
    if (graph->node(id).op != Op::input) rewriter.copy(id);
  OpBuilder e(rewriter);
  for (const auto& [name, value] : graph->names())
    if (is_float(graph->type(value).dtype) && graph->type(value).rank() > 0)
      rewriter.output("probe " + name, e.sum_last(e.mul(rewriter[value], rewriter[value])));
  return rewriter.finish_copy();
}

// The graph without the outputs that with_probes added, and what only they need.
GraphPtr without_probes(const GraphPtr& graph) {
  Rewriter rewriter(*graph);
  for (int32_t id = 0; id < graph->size(); ++id)
    if (graph->node(id).op != Op::input) rewriter.copy(id);
  for (const Output& output : graph->outputs())
    if (!output.name.starts_with("probe ")) rewriter.output(output.name, rewriter[output.value]);
  return live_graph(rewriter.finish(), /*keep_named=*/false);
}

TEST(Properties, ProbesLeaveTheProgramAsItIs) {
  GraphPtr model = build_llama(test::small_model(), 2, 5).graph;
  auto check = [](const GraphPtr& graph) -> std::string {
    GraphPtr plain = lowered(at(graph, Stage::differentiated));
    GraphPtr probed = lowered(with_probes(at(graph, Stage::differentiated)));
    if (structural_key(*without_probes(probed)) == structural_key(*plain)) return "";
    return "with probes:\n" + print_graph(*without_probes(probed)) + "without:\n" +
           print_graph(*plain);
  };
  EXPECT_EQ(check(model), "");
  EXPECT_GT(lowered(with_probes(at(model, Stage::differentiated)))->size(),
            lowered(at(model, Stage::differentiated))->size());
  test::check_random_graphs([&](const GraphPtr& graph, const Tensors&) { return check(graph); });
}

}  // namespace
}  // namespace weir
