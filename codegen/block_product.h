#pragma once
// Small dense products inside a kernel, on operands that lie in cache: the inner step of attention.
// Every element of the result is one chain of fused multiply-adds over ascending k.
#include "codegen/emitter.h"

namespace weir {

/// A matrix in memory: element (r, c) at base[origin + r * row_stride + c * column_stride].
struct BlockMatrix {
  llvm::Value* base = nullptr;
  llvm::Value* origin = nullptr;  ///< in elements
  int64_t row_stride = 0;
  int64_t column_stride = 1;
};

/// C[rows, columns] (+)= A[rows, depth] B[depth, columns], f32. `rows` and `depth` are values known
/// when the kernel runs, `columns` is a constant. B and C have unit column stride; A may have any.
void emit_block_product(Emitter& e, llvm::Value* rows, int64_t columns, llvm::Value* depth,
                        const BlockMatrix& a, const BlockMatrix& b, const BlockMatrix& c,
                        bool accumulate);

/// packed[c][r] = source[r][c] for r < rows (a value, 1 to `row_capacity`) and c < columns; rows
/// beyond are copies of the last one. `packed` has row stride `row_capacity`, a multiple of the
/// vector width.
void emit_block_transpose(Emitter& e, llvm::Value* rows, int64_t row_capacity, int64_t columns,
                          const BlockMatrix& source, llvm::Value* packed);

/// Stores `value` into rows x columns of c.
void emit_block_fill(Emitter& e, llvm::Value* rows, int64_t columns, const BlockMatrix& c,
                     double value);

}  // namespace weir
