#pragma once
// Kernels of fused loops: the schedules "elementwise", "row" and "column".
//
// Numerics. Arithmetic is f32 and i32, a result of a narrower type is rounded to it at every node,
// nothing is reassociated or contracted. A row reduction gives element i to lane i mod `lanes`, in
// ascending order from the identity (-0 for a sum), and joins the lanes by a pairwise tree; a
// column reduction is one ascending chain from the identity. So the bits of a result follow from
// the region alone, whatever the target, tile, thread or fusion - as long as `lanes` is the same.
#include "codegen/kernel_code.h"
#include "ir/schedule.h"
#include "support/target.h"

namespace weir {

/// The kernel of a region. The output of each pair of `in_place` overwrites the input: both have
/// one type, and every read of the input is at the very element that is written. User error when a
/// value is f64; internal error for a region or a pair that the schedule does not allow.
KernelCode make_loop_kernel(const GraphPtr& region, Schedule schedule, const Target& target,
                            const std::vector<InPlace>& in_place = {});

}  // namespace weir
