#pragma once
// lowered -> fused: nodes are grouped into kernels. Grouping is decided on the program without its
// probes, so that asking for one moves nothing; probe reductions become kernels of their own beside
// it, and an inner value that a probe needs is stored by its kernel as one more result.
#include "ir/graph.h"

namespace weir {

/// Limits on one kernel; beyond them groups are not merged.
struct FuseOptions {
  int max_nodes = 96;
  int max_operands = 40;
};

/// The fused graph: inputs, kernel nodes with regions, reshape aliases and probes, in running
/// order.
GraphPtr fuse(const GraphPtr& lowered, const FuseOptions& options = {});

}  // namespace weir
