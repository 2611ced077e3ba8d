#pragma once
// Inputs chosen by name patterns, as configurations give them.
#include <string>
#include <vector>

#include "ir/graph.h"

namespace weir {

/// The names of the floating-point inputs that match one of the globs, in the graph's order. One
/// user error lists the globs that match none, with the nearest names.
std::vector<std::string> select_inputs(const Graph& graph, const std::vector<std::string>& globs);

}  // namespace weir
