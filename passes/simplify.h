#pragma once
// Local rewrites that never change a bit of a finite result: constant folding, algebra that is
// exact in floating point, and one order for the operands of commutative ops, so that interning
// finds equal subexpressions. That holds of compiled code as well, whose arithmetic flushes numbers
// below the smallest normal one to zero of the same sign. Outside of it are inputs of a program
// that are so small: where a rule leaves an operation out, as in x * 1, they stay what they are.
#include <string>
#include <vector>

#include "ir/graph.h"

namespace weir {

/// One line of the table of rules.
struct SimplifyRuleInfo {
  std::string name;
  std::string safety;  ///< why it is exact
  Stage from;          ///< the first stage at which it may run
};
std::vector<SimplifyRuleInfo> simplify_rules();

/// How often each rule applied, in the order of simplify_rules().
struct SimplifyStats {
  std::vector<int64_t> hits;
};

/// The graph after one pass of all rules, each node to its own fixed point; the same pointer if no
/// rule applied. Names move with their values. In a built graph a named node is left as it is:
/// merging it into another value would change the gradient that its name stands for.
GraphPtr simplify(const GraphPtr& graph, SimplifyStats* stats = nullptr);

}  // namespace weir
