#pragma once
// How long results of kernels are kept, in running order.
#include <cstdint>
#include <map>

#include "ir/graph.h"

namespace weir {

struct Lifetime {
  int32_t first = 0;  ///< the node that stores it
  int32_t last = 0;   ///< the last node that reads it; the graph's size if an output
};

/// Of every value of a fused graph, inputs included; a reshape counts as its operand.
std::map<Value, Lifetime> lifetimes(const Graph& graph);

/// Where most bytes of kernel results are live.
struct LivePeak {
  int32_t node = 0;   ///< while this node runs
  int64_t bytes = 0;  ///< each result rounded up as in the arena
};
LivePeak live_peak(const Graph& graph, const std::map<Value, Lifetime>& live);

}  // namespace weir
