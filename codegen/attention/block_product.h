#pragma once
// Small dense products inside a kernel, on operands that lie in its scratch memory: the inner step
// of attention. Every element of the result is one chain of fused multiply-adds over ascending k.
//
// Register blocks are never ragged: rows and columns are rounded up to whole blocks, and memory of
// A and C must be there for the rows that this adds. These are padding; their values are
// unspecified.
#include <functional>
#include <vector>

#include "codegen/llvm/emitter.h"

namespace weir {

/// An array in memory, of elements of one type; what is loaded from it is widened to f32, what is
/// stored rounded.
struct KernelArray {
  llvm::Value* base = nullptr;
  Storage element = Storage::f32;
};

/// The type of what lies in a kernel's scratch memory: products, weights, sums.
constexpr Storage kScratch = Storage::f32;
inline int64_t bytes_in_scratch(int64_t elements) { return storage_bytes(kScratch) * elements; }

/// A matrix in memory: element (r, c) at base[origin + r * row_stride + c * column_stride].
struct BlockMatrix {
  KernelArray array;
  llvm::Value* origin = nullptr;  ///< in elements
  int64_t row_stride = 0;
  int64_t column_stride = 1;
};

/// A register block of the result: rows x vectors of target.lanes() columns.
struct BlockTile {
  int rows = 1, vectors = 1;
  /// A number of rows in whole register blocks.
  int64_t padded(int64_t count) const { return (count + rows - 1) / rows * rows; }
};

/// The register block for results of about rows x columns that wastes least on rounding up, of at
/// most `most_vectors` vectors. Many rows of few vectors take more instructions for the same work.
BlockTile block_tile(const Target& target, int64_t rows, int64_t columns, int most_vectors);

/// C[rows, columns] (+)= A[rows, depth] B[depth, columns], in f32 arithmetic. B and C have unit
/// column stride; A may have any.
struct BlockProduct {
  BlockTile tile;
  BlockMatrix a, b, c;
  llvm::Value* rows = nullptr;
  int64_t columns = 0;  ///< whole vectors
  /// Optional: the first row that is wanted of a group of columns, at or below which blocks start.
  std::function<llvm::Value*(llvm::Value* column)> first_row;
  /// The range of k that the rows of one register block need.
  struct Range {
    llvm::Value *begin, *end;
  };
  std::function<Range(llvm::Value* row)> depth;
  bool accumulate = false;
  /// Optional: what an accumulator of a block's vector is multiplied by before.
  std::vector<llvm::Value*> rescale;
  /// Optional: sees and may change a block of sums, [row][vector], before it is stored.
  std::function<void(llvm::Value* row, llvm::Value* column, std::vector<llvm::Value*>& sums)>
      finish;
};

void emit_block_product(Emitter& e, const BlockProduct& product);

/// to[r][c] = from[min(r, last)][c], changed by `map` if there is one. `last` may be null.
struct BlockCopy {
  llvm::Value* rows = nullptr;
  int64_t columns = 0;
  BlockMatrix from, to;
  llvm::Value* last = nullptr;
  std::function<llvm::Value*(llvm::Value* row, llvm::Value* values)> map;
};
void emit_block_copy(Emitter& e, const BlockCopy& copy);

/// packed[c][r] = factor * source[r][c] for r < rows (a value, 1 to `row_capacity`) and c <
/// columns; rows beyond are copies of the last one. `packed` has row stride `row_capacity`, a
/// multiple of the vector width.
void emit_block_transpose(Emitter& e, llvm::Value* rows, int64_t row_capacity, int64_t columns,
                          const BlockMatrix& source, const KernelArray& packed, double factor = 1);

/// Stores `value` into rows x columns of c.
void emit_block_fill(Emitter& e, llvm::Value* rows, int64_t columns, const BlockMatrix& c,
                     double value);

}  // namespace weir
