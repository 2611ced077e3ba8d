#pragma once
// The text of a graph (grammar: ir/README.md) back to a graph. What print_graph prints gives an
// equal graph, at every stage; text written by hand may leave out types, use any labels and
// repeat equal expressions, which become one node.
#include <string>
#include <string_view>

#include "ir/graph.h"

namespace weir {

/// The graph. A UserError shows file, line and column with the line: the first mistake of grammar,
/// or up to ten of meaning (unknown op, value or attribute, operands, types). The rules of the
/// graph's stage are checked by verify_user (ir/verify.h), not here.
GraphPtr parse_graph(std::string_view text, const std::string& file = "<text>");

}  // namespace weir
