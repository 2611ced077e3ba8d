#pragma once
// fused -> planned: every kernel result gets an offset, so that the peak is known before anything
// runs. The attribute `offset` of a kernel has one number a result: a byte offset in the arena (a
// multiple of kAlignment), or -1 - k for the buffer of input k, which the kernel updates in place
// (donated state). The graph attribute `arena` is the arena's size in bytes.
#include "ir/graph.h"

namespace weir {

GraphPtr plan_memory(const GraphPtr& fused);

struct MemoryNeed {
  int64_t arena = 0;   ///< bytes of intermediate results at the peak, padding included
  int64_t state = 0;   ///< bytes of donated inputs: weights, moments, accumulators
  int64_t inputs = 0;  ///< bytes of the other inputs
  int64_t total() const { return arena + state + inputs; }
};

/// What a planned graph needs; internal error for one that is not planned.
MemoryNeed memory_need(const Graph& planned);

/// "arena 12.0 MiB + state 3.1 MiB + inputs 4.0 KiB = 15.1 MiB".
std::string to_string(const MemoryNeed& need);

/// Checks the plan of a verified graph from scratch: no two live results overlap; every read of a
/// state input comes before the kernel that overwrites it, or happens in it element by element.
/// Internal error with the offending nodes otherwise.
void check_plan(const Graph& planned);
/// The same for a graph parsed from `file`: a UserError. Graphs that are not planned pass.
void check_plan_user(const Graph& graph, const std::string& file);

}  // namespace weir
