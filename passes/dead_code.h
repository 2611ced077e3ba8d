#pragma once
// Drops what nothing needs.
#include "ir/graph.h"

namespace weir {

/// The graph without nodes that no output and no effect needs. Until probes are resolved (stages
/// built and differentiated) named values stay, since a probe may ask for them; from then on code
/// that only a name kept goes, and its names with it.
GraphPtr dead_code(const GraphPtr& graph);

/// By node: whether an output needs it. That is the main part of a program; what only probes need
/// is not in it.
std::vector<bool> needed_by_outputs(const Graph& graph);

}  // namespace weir
