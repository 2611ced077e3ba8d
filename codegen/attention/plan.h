#pragma once
// What the attention kernels know before they emit: shapes, blocks, where things lie in a worker's
// scratch memory, and which results are wanted. Plans are values; emission does not change them.
//
// What lies in scratch memory is f32; its offsets and strides count elements.
#include <functional>
#include <memory>
#include <vector>

#include "codegen/attention/block_product.h"
#include "codegen/attention/normalizer.h"
#include "ir/graph.h"
#include "ir/map_cells.h"
#include "ir/score_transform.h"

namespace weir {

/// What all attention kernels have in common.
struct AttentionPlan {
  int64_t B = 0, T = 0, S = 0;  ///< sequences, queries, keys
  int64_t H = 0, G = 0, d = 0;  ///< query heads, key heads, features
  int64_t key_block = 0;        ///< keys between two rescalings
  ScoreTransform transform = {};
  int row_numbers = 0;  ///< that `rows` holds of a row of scores
  int sums = 0;         ///< of them, behind the reference
  RowExtra extra = RowExtra::none;
  std::shared_ptr<const NormalizerCode> normalizer = nullptr;
  std::vector<Storage> elements = {};  ///< of the buffers, as they are stored
  int lanes = 1;
  int64_t tiles = 0, scratch_bytes = 0;

  int64_t group() const { return H / G; }
  /// Of a row whose i-th number `number` gives.
  RowState row_state(const std::function<llvm::Value*(int i)>& number) const;
  bool causal() const { return transform.causal; }
};

/// Positions of the region's inputs and outputs among the kernel's buffers; -1: not returned.
struct ForwardBuffers {
  int q = -1, k = -1, v = -1, other = -1;
  int out = -1, rows = -1;
};

struct ForwardPlan : AttentionPlan {
  ForwardBuffers use = {};
  BlockTile score_tile = {}, sum_tile = {};
  int64_t slice_width = 0;  ///< queries of a slice of a tile: those of a register block
  int64_t query_block = 0;  ///< queries of a tile; no influence on the result
  int64_t key_stride = 0, value_stride = 0, out_stride = 0;
  int64_t slice_floats = 0;
  // Offsets in the scratch memory.
  int64_t keys = 0, values = 0, scores = 0, largest = 0, slices = 0;

  int64_t query_blocks() const { return (T + query_block - 1) / query_block; }
  int64_t slices_per_head() const { return query_block / slice_width; }
  int64_t slice_count() const { return group() * slices_per_head(); }
  /// Register blocks of a slice and a block of keys, each of which can issue prefetches.
  int64_t register_blocks() const {
    return score_tile.padded(key_block) / score_tile.rows + sum_tile.padded(d) / sum_tile.rows;
  }
};

/// As above; -1: not wanted.
struct BackwardBuffers {
  int q = -1, k = -1, v = -1, out = -1, rows = -1, dout = -1;
  int dlse = -1;  ///< gradients at row log-sum-exps
  int dq = -1, dk = -1, dv = -1;
  int column_sum = -1, column_sum_sq = -1, entropy = -1, sink = -1, largest = -1, row_sum = -1;
  int64_t sink_key = 0;

  bool gradients() const { return dq >= 0 || dk >= 0 || dv >= 0; }
  bool score_gradients() const { return dq >= 0 || dk >= 0; }
  bool columns() const { return column_sum >= 0 || column_sum_sq >= 0; }
  /// Statistics of single weights, which are of a[t,s] / r[t].
  bool of_weights() const { return columns() || entropy >= 0 || sink >= 0 || largest >= 0; }
};

/// Offsets in the scratch memory of the backward kernel.
struct BackwardScratch {
  // By panel of keys: transposed, as they are, and sums of gradients.
  int64_t k_transposed = 0, v_transposed = 0, keys = 0, key_sums = 0, value_sums = 0;
  // By block of queries.
  int64_t queries = 0, out_grads = 0, query_sums = 0;
  // By block of queries and of keys: products, then weights; weights as shares of their row; score
  // gradients.
  int64_t weights = 0, shares = 0, score_grads = 0;
  // By row of the task: <dout, out>; the factors of numerators to weights, and to shares of the
  // row's sum (or that sum, where shares are divided); the logarithm to base 2 of the sum.
  int64_t deltas = 0, row_factors = 0, share_factors = 0, row_logs = 0;
  // By row, not scaled: the sum of the gradients of its scores, and that of their sizes. By block
  // of queries, and for the task: 1 where residuals count.
  int64_t row_sums = 0, corrected_blocks = 0, any_corrected = 0;
};

struct BackwardPlan : AttentionPlan {
  BackwardBuffers use = {};
  int64_t padded_keys = 0;  ///< keys of a block in whole vectors
  int64_t query_block = 0;  ///< small, for the first-level cache; no influence on the result
  BlockTile score_tile = {}, query_tile = {}, key_tile = {};
  int64_t stride = 0;                    ///< of rows of features
  int64_t query_rows = 0, key_rows = 0;  ///< of a block in whole register blocks
  int64_t panel_blocks = 1;              ///< blocks of keys in a panel; no influence on the result
  bool divides = false;   ///< statistics are of a[t,s] / r[t], which are kept beside a[t,s]
  bool corrects = false;  ///< residuals of score gradients are looked at
  BackwardScratch scratch = {};

  int64_t query_blocks() const { return (T + query_block - 1) / query_block; }
  int64_t panel_keys() const { return panel_blocks * key_block; }
  /// Register blocks, each of which can issue prefetches, in one whole pair of blocks at least.
  int64_t register_blocks() const;
};

struct MapBuffers {
  int q = -1, k = -1, rows = -1, map = -1;
};

struct MapPlan : AttentionPlan {
  MapBuffers use = {};
  MapCells row_cells = {}, column_cells = {};
  int64_t padded_keys = 0;
  int64_t query_block = 0;  ///< no influence on the result
  BlockTile tile = {};
  int64_t stride = 0;
  // Offsets in the scratch memory.
  int64_t keys = 0, queries = 0, weights = 0, sums = 0;
};

/// As above; -1: not wanted.
struct IdentitiesBuffers {
  int q = -1, k = -1, v = -1, out = -1, dout = -1, other = -1, dlse = -1;
  int dv = -1, dk = -1, dq = -1, by_key = -1, by_query = -1;
};

struct IdentitiesPlan : AttentionPlan {
  IdentitiesBuffers use = {};
  int64_t padded_keys = 0;  ///< all keys in whole vectors
  // Offsets in the scratch memory: keys transposed; of one number a key, norms; of the query at
  // hand scores, numerators of weights, and products of its upstream gradient with values.
  int64_t keys = 0, key_norms = 0, value_norms = 0, scores = 0, numerators = 0, gradients = 0;
};

/// Of regions that hold one attention node; attention_grad, attention_stats or both; one
/// attention_map; one attention_identities. A user error for operands of another dtype than f32.
ForwardPlan plan_attention(const Graph& region, const Target& target);
BackwardPlan plan_attention_backward(const Graph& region, const Target& target);
MapPlan plan_attention_map(const Graph& region, const Target& target);
IdentitiesPlan plan_attention_identities(const Graph& region, const Target& target);

/// `count` in whole vectors.
int64_t whole_vectors(int64_t count, int lanes);

}  // namespace weir
