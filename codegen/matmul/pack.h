#pragma once
// Packing: copies micro-panels of A and B into the order in which the micro-kernel reads them,
// [step of k][row of A or column of B].
#include "codegen/matmul/context.h"

namespace weir {

/// Packs micro-panels [first, last) of A, of `rows` rows each, for a block of k: a packed block.
void pack_a_block(const MatmulContext& context, const CTile& tile, const KBlock& block,
                  llvm::Value* first, llvm::Value* last, int64_t rows);

/// Packs the tile's columns of B for a block of k.
void pack_b_block(const MatmulContext& context, const CTile& tile, const KBlock& block);

/// Tile `tile` of the kernel that packs B as a whole, from its buffer 0 to buffer 1.
void prepack_b(const MatmulContext& context, llvm::Value* tile);

}  // namespace weir
