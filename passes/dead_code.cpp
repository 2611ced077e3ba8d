#include "passes/dead_code.h"

#include "ir/edit.h"

namespace weir {

GraphPtr dead_code(const GraphPtr& graph) {
  return live_graph(graph, /*keep_named=*/graph->stage() < Stage::instrumented);
}

std::vector<bool> needed_by_outputs(const Graph& graph) {
  std::vector<bool> needed(graph.nodes().size());
  for (const Output& output : graph.outputs()) needed[output.value.node] = true;
  for (int32_t id = graph.size() - 1; id >= 0; --id)
    if (needed[id])
      for (Value input : graph.node(id).inputs) needed[input.node] = true;
  return needed;
}

}  // namespace weir
