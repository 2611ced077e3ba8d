#pragma once
// The place of ScoreTransform in the kernels: products of queries and keys become scores here, and
// gradients of scores those of products. Scores still lack the scale of their differences, which
// the normaliser applies. A bias or a window would be emitted here.
#include <vector>

#include "codegen/attention/block_product.h"
#include "ir/score_transform.h"

namespace weir {

/// A vector or more of products to scores.
llvm::Value* emit_score(Emitter& e, const ScoreTransform& transform, llvm::Value* product);

/// dL/dproduct from dL/dscore and the score.
llvm::Value* emit_product_gradient(Emitter& e, const ScoreTransform& transform, llvm::Value* score,
                                   llvm::Value* gradient);

/// How many of the first `count` keys from `first_key` on a query sees; may be negative.
llvm::Value* keys_seen(Emitter& e, const ScoreTransform& transform, llvm::Value* count,
                       llvm::Value* first_key, llvm::Value* query);

/// A register block of scores as [key][query], queries along the lanes: hidden ones, and those of
/// keys from `keys` on, become `masked_score`.
struct ScoreBlock {
  BlockTile tile;
  llvm::Value *first_query, *first_key;
  int64_t queries, keys;  ///< that there are in all
};
void emit_score_mask(Emitter& e, const ScoreTransform& transform, const ScoreBlock& block,
                     double masked_score, std::vector<llvm::Value*>& scores);

}  // namespace weir
