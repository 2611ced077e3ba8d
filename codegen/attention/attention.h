#pragma once
// Attention forward and backward by blocks of queries and keys that stay in cache; no array of
// [queries, keys] exists in memory. Statistics of the weights come from inside.
//
// Numerics, set by the node and not by the blocking of queries: a score is one FMA chain over the
// features of query and key, the same forward and backward (and in a product, where the pattern is
// computed), and is scaled when the row's reference has been subtracted; keys are taken
// `key_block` at a time, after each of which the running maximum, sum and output are rescaled; the
// weights of a block are summed in order; an output is one FMA chain over the keys of a block from
// the rescaled value. Backward, chains run over keys (dq), and over the group's heads and then
// queries (dk, dv). Keys that a query does not see have weights of exactly zero.
#include "codegen/kernel_code.h"
#include "ir/graph.h"
#include "support/target.h"

namespace weir {

/// The kernel of a region that holds one attention node. A user error for dtypes other than f32.
KernelCode attention_kernel(const Graph& region, const Target& target);

/// The kernel of a region of attention_grad, attention_stats, or both for the same q, k and rows;
/// outputs that the region does not return are not computed.
KernelCode attention_backward_kernel(const Graph& region, const Target& target);

/// The kernel of a region that holds one attention_map node. Of a cell's weights those of one key
/// are summed over ascending queries first, then these sums over ascending keys.
KernelCode attention_map_kernel(const Graph& region, const Target& target);

/// The kernel of a region that holds one attention_identities node, pair by pair of a query and a
/// key: a check of the other kernels that has nothing in common with them but the normalisers.
KernelCode attention_identities_kernel(const Graph& region, const Target& target);

}  // namespace weir
