#pragma once
// Where the operands of an attention kernel and its scratch memory lie, while it is emitted.
#include "codegen/attention/block_product.h"

namespace weir {

struct KernelMemory {
  Emitter& e;
  const KernelFrame& frame;
  const std::vector<Storage>& elements;  ///< of the buffers (AttentionPlan::elements)

  KernelArray buffer(int position) const { return {frame.buffers[position], elements[position]}; }
  /// Elements of a buffer from an index on, as f32.
  llvm::Value* load(int position, llvm::Value* at, int lanes, llvm::Value* mask = nullptr) const {
    return e.load(elements[position], frame.buffers[position], at, lanes, mask);
  }
  llvm::Value* load_broadcast(int position, llvm::Value* at, int lanes) const {
    return e.load_broadcast(elements[position], frame.buffers[position], at, lanes);
  }
  void store(llvm::Value* value, int position, llvm::Value* at, llvm::Value* mask = nullptr) const {
    e.store(elements[position], value, frame.buffers[position], at, mask);
  }

  /// Scratch memory at an offset of a plan, in elements of f32.
  KernelArray scratch(int64_t offset) const {
    return {e.byte_address(frame.scratch, bytes_in_scratch(offset)), kScratch};
  }
  /// The `number`-th of the parts of `size` elements behind that offset.
  KernelArray scratch_part(int64_t offset, llvm::Value* number, int64_t size) const {
    return {e.byte_address(scratch(offset).base, e.mul(number, bytes_in_scratch(size))), kScratch};
  }
  BlockMatrix scratch_matrix(int64_t offset, int64_t row_stride) const {
    return {scratch(offset), e.index(0), row_stride, 1};
  }
  llvm::Value* load_scratch(int64_t offset, llvm::Value* at, int lanes) const {
    return e.load(kScratch, scratch(offset).base, at, lanes);
  }
  void store_scratch(llvm::Value* value, int64_t offset, llvm::Value* at,
                     llvm::Value* mask = nullptr) const {
    e.store(kScratch, value, scratch(offset).base, at, mask);
  }
};

/// Rows of one head in a [B,T,H,d] array: element (t, i) of sequence b and head h.
BlockMatrix head_rows(Emitter& e, const KernelArray& array, llvm::Value* b, llvm::Value* h,
                      llvm::Value* t0, int64_t T, int64_t H, int64_t d);

/// The tile that this worker is likely to get after a tile: the next of those that it has, else the
/// one behind those that the other workers have meanwhile. It may be none.
llvm::Value* predicted_next_tile(Emitter& e, const KernelFrame& frame, llvm::Value* tile);

}  // namespace weir
