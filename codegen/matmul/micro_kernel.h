#pragma once
// The micro-kernel: an mr x nr tile of C in registers, to which each step of k adds the product of
// a column of a micro-panel of A and a row of one of B.
#include "codegen/matmul/epilogue.h"
#include "codegen/matmul/prefetch.h"

namespace weir {

/// Multiplies the micro-panels `a` and `b` over a block of k, and issues the prefetches meanwhile.
void emit_micro_kernel(const MatmulContext& context, const CTile& tile, const KBlock& block,
                       const MicroTile& micro, llvm::Value* a, llvm::Value* b,
                       const PrefetchPlan& prefetch);

}  // namespace weir
