#pragma once
// A kernel cut out of another one.
#include <vector>

#include "ir/schedule.h"

namespace weir {

struct KernelPart {
  GraphPtr region;
  std::vector<Value> operands;  ///< in the graph of the whole kernel; its own results among them
  Schedule schedule;
};

/// What computes the results `wanted` of a kernel of a fused graph, in that order, from its
/// operands and from others of its results, which are `given`. The bits are those of the whole
/// kernel; the schedule may be simpler.
KernelPart kernel_part(const Graph& graph, int32_t kernel, const std::vector<int32_t>& wanted,
                       const std::vector<int32_t>& given);

/// The fused graph with kernels that store only what something reads; names of other results go.
GraphPtr without_unread_results(const GraphPtr& fused);

}  // namespace weir
