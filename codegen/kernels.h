#pragma once
// From the schedule of a kernel node to the generator of its code: the one table of schedules.
#include <string>
#include <string_view>

#include "codegen/kernel_code.h"
#include "codegen/loss_head/loss_head.h"
#include "codegen/matmul/tile_table.h"
#include "ir/graph.h"
#include "support/target.h"

namespace weir {

/// The code of a kernel node. User errors for types that compiled code does not compute in;
/// Products take the tiles of `tuned` where it has theirs. Internal error for an unknown schedule
/// or a region that it does not allow.
KernelPhases make_kernel(std::string_view schedule, const GraphPtr& region, const Target& target,
                         const std::vector<InPlace>& in_place = {}, const TileTable& tuned = {},
                         int64_t logits_bytes = kLogitsBytes);

}  // namespace weir
