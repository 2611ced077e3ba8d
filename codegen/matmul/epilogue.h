#pragma once
// The elements of C around a micro-kernel: what its accumulators start from, where partial sums are
// spilled between blocks of k, and the epilogue, which stores finished elements.
#include "codegen/matmul/context.h"

namespace weir {

/// The tile of C of one micro-kernel.
struct MicroTile {
  llvm::Value* row;
  int64_t rows;  ///< mr, or those of the ragged micro-panel
  llvm::Value* column;
  int64_t columns;  ///< nr, or those of the ragged micro-panel
};

/// Where a partial sum lies between blocks of k: in C, in a matrix laid out as C, or in scratch.
struct SpillPlace {
  llvm::Value* base;
  llvm::Value* offset;  ///< in elements of the accumulators' type
  int64_t row_stride;
};
SpillPlace spill_place(const MatmulContext& context, const CTile& tile, const MatrixRun& run);

/// The vectors of a micro-tile, row by row: one accumulator each.
std::vector<MatrixRun> accumulator_runs(const MatmulContext& context, const CTile& tile,
                                        const MicroTile& micro);

/// The accumulators before a block of k: zero, elements of the accumulator operand, or what was
/// spilled after the block before.
Emitter::Values init_accumulators(const MatmulContext& context, const CTile& tile,
                                  const KBlock& block, const std::vector<MatrixRun>& runs);

/// What becomes of the accumulators after a block of k: they are spilled, or the epilogue takes
/// them.
void finish_accumulators(const MatmulContext& context, const CTile& tile, const KBlock& block,
                         const MicroTile& micro, const std::vector<MatrixRun>& runs,
                         const Emitter::Values& accumulators);

}  // namespace weir
