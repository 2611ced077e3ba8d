#pragma once
// The schedule "matmul": one product and the elementwise nodes that follow it, computed on the
// finished elements while they are in registers.
#include "codegen/kernel_code.h"
#include "codegen/matmul/tile_table.h"
#include "ir/graph.h"
#include "support/target.h"

namespace weir {

/// The kernel of a region with one matmul and an elementwise epilogue of its shape. User error for
/// element types that no product is compiled for; internal error for a region that the schedule
/// does not allow.
KernelPhases make_matmul_kernel(const GraphPtr& region, const Target& target,
                                const std::vector<InPlace>& in_place = {},
                                const TileTable& tuned = {});

}  // namespace weir
