#pragma once
// A graph as a drawing for Graphviz: `dot -Tsvg g.dot > g.svg`.
#include <string>

#include "ir/graph.h"

namespace weir {

/// One box a node with op, attributes, types and names, coloured by the op's class; one edge an
/// operand, labelled with the result if the operand's node has several. A kernel is a cluster that
/// holds its region.
std::string to_dot(const Graph& graph);

}  // namespace weir
