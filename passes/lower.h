#pragma once
// The last step before kernels: every reduction in one of the two orders that kernels have, and the
// numbers that fix the order of summation stamped on the nodes.
#include "ir/graph.h"
#include "support/target.h"

namespace weir {

/// Lanes of a reduction of `extent` elements along the last axis: the most of 4, 2 or 1 vectors of
/// which at least two rounds fit into the row. Four independent chains hide the latency of an
/// addition (4 cycles at 1 to 2 a cycle); for a row shorter than that, folding the lanes together
/// would cost more than the chains save. Always a multiple of the vector width, so that a round is
/// whole registers.
int64_t reduction_lanes(int64_t extent, const Target& target);

/// Keys that attention takes at a time before it rescales the running sum: 64, so that rescaling a
/// row of the output costs a few percent of its products while a causal mask still skips most of
/// the upper triangle; halved until keys and values of d features fill at most an eighth of the
/// second cache; at least one vector, and no more than the keys rounded up to a vector.
int64_t attention_key_block(int64_t keys, int64_t features, const Target& target);

/// The lowered graph: a reduction over the last and other axes is split, last axis first; one over
/// the last axis carries `lanes`, every attention node `key_block`; code that only names kept is
/// gone. The stamps depend on shapes and target alone, so that they are equal with and without
/// probes.
GraphPtr lower(const GraphPtr& graph, const Target& target);

}  // namespace weir
