#pragma once
// The region of a kernel that runs one op alone (an embedding, a loss head): where the op's
// operands and results lie among the kernel's buffers.
#include <vector>

#include "ir/graph.h"

namespace weir {

struct SingleOpRegion {
  const Node* node = nullptr;  ///< belongs to the region
  std::vector<int> operands;   ///< the buffer of each operand
  std::vector<int> results;    ///< the buffer of each result; -1: not wanted
  int workspace = 0;           ///< the buffer behind inputs and outputs
};

/// Internal error unless the region is one node of one of `ops` on inputs.
SingleOpRegion single_op_region(const Graph& region, std::initializer_list<Op> ops);

}  // namespace weir
