#pragma once
// Where the operands of an attention kernel and its scratch memory lie, while it is emitted.
#include "codegen/attention/block_product.h"

namespace weir {

struct KernelMemory {
  Emitter& e;
  const KernelFrame& frame;

  llvm::Value* buffer(int position) const { return frame.buffers[position]; }
  /// At an offset of a plan, in f32 elements.
  llvm::Value* scratch(int64_t offset) const { return e.byte_address(frame.scratch, 4 * offset); }
  BlockMatrix scratch_matrix(int64_t offset, int64_t row_stride) const {
    return {scratch(offset), e.index(0), row_stride, 1};
  }
};

/// Rows of one head in a [B,T,H,d] array: element (t, i) of sequence b and head h.
BlockMatrix head_rows(Emitter& e, llvm::Value* base, llvm::Value* b, llvm::Value* h,
                      llvm::Value* t0, int64_t T, int64_t H, int64_t d);

/// The tile that this worker is likely to get after a tile: the next of those that it has, else the
/// one behind those that the other workers have meanwhile. It may be none.
llvm::Value* predicted_next_tile(Emitter& e, const KernelFrame& frame, llvm::Value* tile);

}  // namespace weir
