#pragma once
// Inputs chosen by name patterns, as configurations give them.
#include <string>
#include <vector>

#include "ir/graph.h"

namespace weir {

/// The names of the floating-point inputs that one of the patterns names, in the graph's order: a
/// glob (with *, ? or {}) chooses among the states, that is the weights; a plain name may be any
/// input. One user error lists the patterns that choose nothing, with the nearest names.
std::vector<std::string> select_inputs(const Graph& graph,
                                       const std::vector<std::string>& patterns);

}  // namespace weir
