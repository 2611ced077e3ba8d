#pragma once
// QK-norm as a rewrite of any built graph: RMSNorm over the features of each query and key head
// before the score, as Qwen 3 has it (Henry et al., "Query-Key Normalization for Transformers",
// arXiv 2010.04245, with RMSNorm and a gain in place of the l2 norm and a factor).
#include "ir/graph.h"

namespace weir {

/// The graph with the norms in front of the rotation of queries and keys, or of the score where
/// there is none. Their gains are new states `qk_norm.query`, `qk_norm.key` [d] behind the prefix
/// of passes/projection.h, which start at 1 (ir/rewrite_state.h); their eps is that of the model's
/// first norm, or 1e-5. `hook_q` and `hook_k` stay what the projections give; normalised heads are
/// named as those of Qwen 3, `q_norm.hook_normalized` and `k_norm.hook_normalized`. Where a model
/// does not rotate, `hook_rot_q` and `hook_rot_k` stay, too; elsewhere they are of normalised
/// heads. User errors: no attention in the graph; a graph that is differentiated already; heads
/// that are normalised already.
GraphPtr apply_qk_norm(const GraphPtr& graph);

}  // namespace weir
