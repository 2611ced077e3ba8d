#pragma once
// From the schedule of a kernel node (ir/schedules.def) to the generator of its code.
#include "codegen/kernel_code.h"
#include "codegen/loss_head/loss_head.h"
#include "codegen/matmul/tile_table.h"
#include "ir/schedule.h"
#include "support/target.h"

namespace weir {

/// The code of a kernel node. User errors for types that compiled code does not compute in.
/// Products take the tiles of `tuned` where it has theirs. Internal error for a region that the
/// schedule does not allow.
KernelPhases make_kernel(Schedule schedule, const GraphPtr& region, const Target& target,
                         const std::vector<InPlace>& in_place = {}, const TileTable& tuned = {},
                         int64_t logits_bytes = kLogitsBytes);

}  // namespace weir
