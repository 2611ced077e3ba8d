#pragma once
// The schedule "loss_head": linear_cross_entropy and its gradient,
//
//   l = x w^T,   loss = scale * sum over counted rows i of (log sum over v of exp l[i,v] -
//   l[i,t_i]), g[i,v] = scale (softmax(l)[i,v] - [v = t_i]), zero in rows not counted,   dx = g w,
//   dw = g^T x,
//
// with a cap l = cap tanh(x w^T / cap) and g times its derivative, by chunks of tokens: a chunk's
// logits are computed once, turned into g where they lie, and multiplied with w and x. A row is
// counted unless its target is negative.
//
// Numerics. Every product is one chain of fused multiply-adds over ascending k (dw: over all
// tokens, with partial sums in dw between chunks). The sum of exponentials gives element v to lane
// v mod 16, in ascending order from zero, and joins the lanes by a pairwise tree. The loss is one
// ascending chain over tokens, then times scale. So neither chunks nor threads nor the width of
// vectors change a bit. A target outside the vocabulary makes the loss and its row of g NaN.
#include "codegen/kernel_code.h"
#include "codegen/matmul/tile_table.h"
#include "ir/graph.h"
#include "support/target.h"

namespace weir {

/// Bytes that a chunk's logits take at most. Each chunk reads w and adds to its gradient once, so
/// more of it costs less time; results are the same.
constexpr int64_t kLogitsBytes = int64_t{224} << 20;

/// The type of logits, which g overwrites, and of losses of rows. Operands and results have it too.
constexpr DType kLogitsType = DType::f32;

/// Tokens of a chunk, a multiple of 16: as many as 16 MiB of logits hold, but not fewer than 1024
/// unless those take more than `logits_bytes`.
int64_t loss_head_chunk(int64_t vocabulary, int64_t logits_bytes = kLogitsBytes);

/// The kernel of a region of one such op, any of its results wanted. `chunk` (0: as above; else a
/// multiple of 16) exists for tests. User error unless operands are of kLogitsType and targets i32.
KernelPhases make_loss_head_kernel(const GraphPtr& region, const Target& target, int64_t chunk = 0,
                                   const TileTable& tuned = {},
                                   int64_t logits_bytes = kLogitsBytes);

}  // namespace weir
