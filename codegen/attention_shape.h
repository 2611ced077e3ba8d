#pragma once
// What the attention kernels know at compile time.
#include "codegen/block_product.h"
#include "ir/graph.h"
#include "ir/normalizer.h"

namespace weir {

struct AttentionShape {
  int64_t B, T, S;  ///< sequences, queries, keys
  int64_t H, G, d;  ///< query heads, key heads, features
  bool causal;
  double scale;
  AttentionNormalizer normalizer;
  int64_t key_block;    ///< keys between two rescalings
  int64_t query_block;  ///< rows of a tile; no influence on the result

  int64_t group() const { return H / G; }
  int64_t key_blocks() const { return (S + key_block - 1) / key_block; }
  int64_t query_blocks() const { return (T + query_block - 1) / query_block; }
  /// Row capacity of packed keys: key_block in whole vectors.
  int64_t packed_keys(int lanes) const { return (key_block + lanes - 1) / lanes * lanes; }
};

/// From the operands q, k of any attention node; internal error without `key_block`.
AttentionShape attention_shape(const Graph& region, const Node& node, const Target& target);

/// Rows of one head in a [B,T,H,d] array: element (t, i) of sequence b and head h.
BlockMatrix head_rows(Emitter& e, llvm::Value* base, llvm::Value* b, llvm::Value* h,
                      llvm::Value* t0, int64_t T, int64_t H, int64_t d);

/// Masks a vector of scores of keys first_key + lane: those of keys that exist and, if causal, are
/// not after the query. The others become -infinity.
llvm::Value* mask_scores(Emitter& e, const AttentionShape& shape, llvm::Value* scores,
                         llvm::Value* first_key, llvm::Value* query);

}  // namespace weir
