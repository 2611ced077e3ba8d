#pragma once
// What the emitters of one product share: the plan, the buffers of the kernel, and where elements
// lie in them. Nothing of it changes while a kernel is emitted.
//
// A micro-panel of A is mr rows, one of B nr columns; the last one may have fewer. mc, nc and kc
// are the extents of a tile of C and of a block of k.
#include <functional>

#include "codegen/matmul/matmul.h"

namespace weir {

/// A block of k.
struct KBlock {
  llvm::Value* begin;
  llvm::Value* depth;     ///< steps of k, kc but in the last block
  llvm::Value* is_first;  ///< i1
  llvm::Value* is_last;   ///< i1
};

/// A tile of C.
struct CTile {
  llvm::Value* batch;
  llvm::Value* row_begin;
  llvm::Value* column_begin;
  llvm::Value* a_panels;     ///< micro-panels of mr rows, without a ragged one
  llvm::Value* b_panels;     ///< micro-panels of nr columns, without a ragged one
  llvm::Value* is_last_row;  ///< i1: the last tile of its column, which then has the ragged panel
  llvm::Value* is_last_column;
};

/// Positions of the product's own buffers in its frame.
struct MatmulBuffers {
  static constexpr int a = 0, b = 1, c = 2, accumulator = 3;
};

/// One product while its kernel is emitted.
class MatmulContext {
 public:
  using Value = llvm::Value;

  MatmulContext(Emitter& e, const MatmulPlan& plan, const MatmulFusion& fusion, KernelFrame frame);

  Emitter& e() const { return e_; }
  const MatmulPlan& plan() const { return plan_; }
  const MatmulSpec& spec() const { return plan_.spec; }
  const MatmulTiles& tiles() const { return plan_.tiles; }
  const MatmulFusion& fusion() const { return fusion_; }
  const KernelFrame& frame() const { return frame_; }
  const MatmulScratch& scratch() const { return scratch_; }
  Value* buffer(int position) const { return frame_.buffers[position]; }

  int lanes() const { return e_.lanes(); }
  int64_t mr() const { return tiles().mr; }
  int64_t nr() const { return int64_t{tiles().nr_vectors} * lanes(); }
  int64_t ragged_rows() const { return spec().m % mr(); }
  int64_t ragged_columns() const { return spec().n % nr(); }
  /// Columns of a packed micro-panel of which `present` exist: whole vectors.
  int64_t packed_columns(int64_t present) const;
  /// Micro-panels of A that are packed, or prefetched, together.
  int64_t panels_per_block() const { return spec().a.transposed ? tiles().panels_per_block : 1; }
  /// Micro-panels of B in a tile.
  int64_t b_panels() const;

  // --- element types ---
  Storage a_type() const;
  Storage b_type() const;
  Storage c_type() const;
  Storage accumulator_type() const;

  // --- addresses ---
  /// Element offset of a matrix of the batch. The remainder changes nothing, but LLVM sees by it
  /// that a single matrix has offset 0.
  Value* batch_offset(const MatmulOperand& operand, Value* batch) const {
    return e_.mul(e_.rem(batch, spec().batch), operand.batch_stride);
  }
  /// Element offset of a micro-panel of a block of k in the prepacked B.
  Value* prepacked_offset(Value* batch, Value* panel, const KBlock& block) const;
  /// Element offset in A, where it lies, of a row and a step of k.
  Value* a_offset(const CTile& tile, Value* row, Value* step) const;
  /// Element offset in a matrix that is laid out as C.
  Value* c_offset(const MatrixRun& run) const;
  /// The i-th micro-panel of the packed block of A.
  Value* packed_a_panel(Value* i) const;
  /// A micro-panel of B in a block of k: prepacked, packed in scratch, or where it lies.
  Value* b_panel(const CTile& tile, Value* panel, const KBlock& block) const;

  // --- loops ---
  KBlock k_block(Value* begin) const;
  void for_k_blocks(const std::function<void(const KBlock&)>& body) const;
  /// Calls `body` with each micro-panel of B in the tile and its columns; the ragged one is last.
  void for_b_panels(const CTile& tile, const std::function<void(Value*, int64_t)>& body) const;

 private:
  Emitter& e_;
  const MatmulPlan& plan_;
  const MatmulFusion& fusion_;
  const KernelFrame frame_;
  const MatmulScratch scratch_;
};

}  // namespace weir
