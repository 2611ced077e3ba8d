#pragma once
// Emits the matrix product of a plan (plan.h), register-blocked and packed, with the epilogue that
// is fused into it.
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "codegen/llvm/emitter.h"
#include "codegen/matmul/plan.h"

namespace weir {

/// A run of `lanes` neighbouring elements of one row of C.
struct MatrixRun {
  llvm::Value* batch;   ///< which matrix
  llvm::Value* row;     ///< i64
  llvm::Value* column;  ///< of the first element
  int lanes;
  llvm::Value* mask;  ///< lanes that exist; nullptr: all
};

/// What is fused into the product: its epilogue.
struct MatmulFusion {
  /// Buffers of the kernel behind its own (see emit_matmul), for `store`.
  std::vector<BufferUse> buffers;
  /// Given finished elements of C, in the accumulators' type, stores what is to be stored; empty:
  /// them, into C. Every element of C is handed over exactly once.
  std::function<void(Emitter&, const KernelFrame&, const MatrixRun&, llvm::Value*)> store;
  /// With `store`: position in the frame of a matrix of the accumulators' type, laid out as C, all
  /// of which `store` writes and which shares its memory with nothing that it reads. Partial sums
  /// are spilled there between blocks of k; without one to scratch, which takes
  /// room in the cache from the operands.
  std::optional<int> spill_buffer;
  /// With `store`: it is long, so it is emitted once for the vectors of a row (as one run where
  /// they are a power of two), in a loop over rows to which a micro-kernel hands its elements
  /// through memory.
  bool rolled_epilogue = false;
  /// With `store`: positions in the frame of matrices of C's type and layout that it reads or
  /// writes. They are prefetched.
  std::vector<int> epilogue_operands;
};

/// Emits the product as kernel `symbol` with buffers
///   a, b (or the prepacked one), c, [accumulator], fusion.buffers...
void emit_matmul(Emitter& e, const std::string& symbol, const MatmulPlan& plan,
                 const MatmulFusion& fusion = {});

/// Emits the packing of B as kernel `symbol` with buffers b, packed.
void emit_matmul_pack(Emitter& e, const std::string& symbol, const MatmulPlan& plan);

}  // namespace weir
