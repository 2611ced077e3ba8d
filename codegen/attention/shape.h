#pragma once
// What the attention kernels know at compile time.
#include "codegen/attention/block_product.h"
#include "ir/graph.h"
#include "ir/normalizer.h"
#include "ir/score_transform.h"

namespace weir {

struct AttentionShape {
  int64_t B, T, S;  ///< sequences, queries, keys
  int64_t H, G, d;  ///< query heads, key heads, features
  ScoreTransform transform;
  AttentionNormalizer normalizer;
  int64_t key_block;  ///< keys between two rescalings

  int64_t group() const { return H / G; }
};

/// From the operands q, k of any attention node; internal error without `key_block`.
AttentionShape attention_shape(const Graph& region, const Node& node);

/// Where an operand of an attention node lies among the buffers of its region. User error for
/// another dtype than f32.
int attention_operand(const Graph& region, Value operand);

/// `count` in whole vectors.
int64_t whole_vectors(int64_t count, int lanes);

/// The stride of rows of `floats` elements in scratch memory: whole vectors, and not such that rows
/// lie in the same few sets of a cache.
int64_t scratch_stride(int64_t floats, int lanes);

/// Rows of one head in a [B,T,H,d] array: element (t, i) of sequence b and head h.
BlockMatrix head_rows(Emitter& e, llvm::Value* base, llvm::Value* b, llvm::Value* h,
                      llvm::Value* t0, int64_t T, int64_t H, int64_t d);

/// The tile that this worker is likely to get after a tile: the next of those that it has, else the
/// one behind those that the other workers have meanwhile. It may be none.
llvm::Value* tile_after(Emitter& e, const KernelFrame& frame, llvm::Value* tile);

/// Parts of a kernel's scratch memory, one behind the other.
class ScratchParts {
 public:
  /// Reserves a part of `floats` elements and returns its place.
  int64_t add(int64_t floats) {
    int64_t place = floats_;
    floats_ += (floats + 15) / 16 * 16;
    return place;
  }
  int64_t bytes() const { return 4 * floats_; }

 private:
  int64_t floats_ = 0;
};

}  // namespace weir
