#pragma once
// Emits the matrix product of a plan (matmul_plan.h), register-blocked and packed, with what
// is fused into it: the epilogue of the result.
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "codegen/llvm/emitter.h"
#include "codegen/matmul/plan.h"

namespace weir {

/// A run of `lanes` neighbouring elements of one row of a matrix in memory.
struct MatrixSite {
  llvm::Value* batch;
  llvm::Value* row;     ///< as stored, i64
  llvm::Value* column;  ///< of the first element, as stored, i64
  int lanes;
  llvm::Value* mask;  ///< lanes that exist; nullptr: all
};

/// What surrounds the product; an empty function means the plain thing.
struct MatmulHooks {
  /// Buffers of the kernel behind its own (see emit_matmul), for the functions below.
  std::vector<BufferUse> extra_buffers;
  /// Given finished elements of C, stores what is to be stored (the plain thing: them, into C). May
  /// store elsewhere too. Every element of C is handed over exactly once.
  std::function<void(Emitter&, const KernelFrame&, const MatrixSite&, llvm::Value*)> store_c;
  /// With store_c: position in the frame of a matrix of f32 laid out as C, all of which store_c
  /// writes and which shares its memory with nothing that it reads. Chains are parked there between
  /// blocks of k; without one in scratch, beside which the operands find less room in the cache.
  std::optional<int> parking;
  /// With store_c: it is long, so it is emitted once for the vectors of a row (as one site where
  /// they are a power of two), in a loop over rows to which a register block hands its elements by
  /// way of memory.
  bool store_in_loop = false;
  /// With store_c: positions in the frame of matrices laid out as C that it reads or writes. They
  /// are asked for ahead of use.
  std::vector<int> beside_c;
};

/// Emits the product as kernel `symbol` with buffers
///   a, b (or the packed one when that is made ahead), c, [accumulator], extra_buffers...
void emit_matmul(Emitter& e, const std::string& symbol, const MatmulPlan& plan,
                 const MatmulHooks& hooks = {});

/// Emits the packing of B as kernel `symbol` with buffers b, packed.
void emit_matmul_pack(Emitter& e, const std::string& symbol, const MatmulPlan& plan);

}  // namespace weir
