#pragma once
// The loss head as one node, so that no [tokens, vocabulary] array exists.
#include "ir/graph.h"

namespace weir {

/// cross_entropy of a product x w^T, seen through reshape and identity, becomes
/// linear_cross_entropy(x, w, targets, scale). It does not where something else that is alive needs
/// the logits. Named logits stay as named code, which a probe makes live. On built graphs.
GraphPtr fuse_loss_head(const GraphPtr& graph);

/// Where linear_cross_entropy and linear_cross_entropy_grad have the same operands, the loss of the
/// latter serves both, so that each logit is computed once. On differentiated graphs, after
/// simplify.
GraphPtr share_loss_head(const GraphPtr& graph);

}  // namespace weir
