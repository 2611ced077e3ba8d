// What must hold of every pass on any graph: the meaning stays, and a second run changes nothing.
#include "ir/edit.h"
#include "passes/dead_code.h"
#include "passes/decompose.h"
#include "passes/loss_head.h"
#include "passes/lower.h"
#include "passes/simplify.h"
#include "testing/random_graph.h"

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

TEST(Properties, FromBuiltToLowered) {
  test::check_pass_preserves_meaning([](const GraphPtr& graph) {
    GraphPtr primitives = decompose(at(graph, Stage::instrumented), DecomposeMode::lower);
    return lower(until_fixed(primitives), {});
  });
}

}  // namespace
}  // namespace weir
