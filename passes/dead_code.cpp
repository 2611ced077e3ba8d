#include "passes/dead_code.h"

#include "ir/edit.h"

namespace weir {

GraphPtr dead_code(const GraphPtr& graph) {
  return live_graph(graph, /*keep_named=*/graph->stage() < Stage::instrumented);
}

}  // namespace weir
