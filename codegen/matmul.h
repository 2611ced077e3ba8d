#pragma once
// The matrix product C = A B (+ accumulator) on f32, register-blocked and packed.
//
// Every element of C is one chain of fused multiply-adds over ascending k, started from zero or
// from the accumulator; between blocks of k it is parked in memory. Tile choices therefore never
// change a bit.
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "support/target.h"

namespace llvm {
class Value;
}

namespace weir {

class Emitter;
struct BufferUse;
struct KernelFrame;

/// One operand in memory, as stored: rows of contiguous elements, `row_stride` elements apart.
struct MatmulOperand {
  int64_t row_stride = 0;
  std::array<int64_t, 2> batch_stride = {0, 0};  ///< elements; 0 repeats the matrix over the batch
  bool transposed = false;  ///< stored [columns, rows] of the matrix that is multiplied
  bool operator==(const MatmulOperand&) const = default;
};

enum class Accumulate {
  none,      ///< chains start from zero
  in_place,  ///< from C itself
  operand,   ///< from a matrix of its own, laid out as C
};

/// C[b, m, n] = sum over k of A[b, m, k] B[b, k, n], for a batch of two dimensions (outer, inner).
struct MatmulSpec {
  int64_t m = 1, n = 1, k = 1;
  std::array<int64_t, 2> batch = {1, 1};
  MatmulOperand a, b, c;  ///< c is never transposed
  Accumulate accumulate = Accumulate::none;
  bool operator==(const MatmulSpec&) const = default;
};

/// How the product is cut. Rows and columns count elements of C, vectors count target.lanes() of
/// them.
struct MatmulTiles {
  int micro_rows = 1;        ///< rows of C in registers
  int micro_vectors = 1;     ///< vectors of columns of C in registers
  int64_t row_block = 1;     ///< rows of a tile; a multiple of micro_rows
  int64_t column_block = 1;  ///< columns of a tile; a multiple of micro_vectors * lanes
  int64_t depth_block = 1;   ///< steps of k between two visits to a tile; k or a multiple of lanes
  /// B is packed as a whole by a kernel of its own before (true) or by every tile for itself.
  bool pack_b_ahead = false;
  /// Strips of micro_rows rows of A are packed before use (true) or read where they lie. A prologue
  /// of A always packs.
  bool pack_a = true;
  int64_t panel_strips = 1;  ///< strips of A that are packed at a time: a panel
  bool operator==(const MatmulTiles&) const = default;
};

/// Tiles whose strips of A fit the first-level cache and whose packed columns of B half of the
/// second, as many as share out evenly over the cores. With `whole_rows` a tile spans all columns,
/// for finish_tile.
MatmulTiles default_tiles(const Target& target, const MatmulSpec& spec, bool whole_rows = false);

/// Everything a caller has to know to run the product.
struct MatmulPlan {
  MatmulSpec spec;
  MatmulTiles tiles;
  int64_t row_tiles = 1, column_tiles = 1, batches = 1;
  int64_t grid = 1;  ///< tiles of the product: ((batch * column tile) * row tile), rows fastest
  int64_t pack_grid = 0;  ///< tiles of the packing kernel; 0 when there is none
  /// Of the packed B: for each matrix and block of k, strips of micro_vectors vectors of columns as
  /// [k][column], the ragged one padded with zeros to vectors.
  int64_t packed_bytes = 0;
  int64_t scratch_bytes = 0;  ///< for each worker, of the product
};

/// Steps of k in a tile of the kernel that packs an untransposed B.
constexpr int64_t matmul_pack_steps = 32;

/// Where things lie in a worker's scratch: a packed panel of A at 0, packed columns of B, parked C.
struct MatmulScratch {
  int64_t b_offset = 0, c_offset = 0, c_row_stride = 0, bytes = 0;
};
MatmulScratch matmul_scratch(const Target& target, const MatmulPlan& plan);

/// UserError when `tiles` break a rule stated above.
MatmulPlan plan_matmul(const Target& target, const MatmulSpec& spec,
                       std::optional<MatmulTiles> tiles = {});

/// A run of `lanes` neighbouring elements of one row of a matrix in memory.
struct MatrixSite {
  llvm::Value* batch_outer;
  llvm::Value* batch_inner;
  llvm::Value* row;     ///< as stored, i64
  llvm::Value* column;  ///< of the first element, as stored, i64
  int lanes;
  llvm::Value* mask;  ///< lanes that exist; nullptr: all
};

/// Elements [row_begin, row_end) x [column_begin, column_end) of C.
struct TileSite {
  llvm::Value *batch_outer, *batch_inner;
  llvm::Value *row_begin, *row_end, *column_begin, *column_end;
};

/// What surrounds the product; an empty function means the plain thing.
struct MatmulHooks {
  /// Buffers of the kernel behind its own (see emit_matmul), for the functions below.
  std::vector<BufferUse> extra_buffers;
  /// Elements of A or B at a site in f32, in place of loading them: the operand prologue. Called
  /// while packing, so about once an element and tile; lanes outside the mask must be 0.
  std::function<llvm::Value*(Emitter&, const KernelFrame&, const MatrixSite&)> load_a, load_b;
  /// Given finished elements of C, stores what is to be stored (the plain thing: them, into C). May
  /// store elsewhere too. Every element of C is handed over exactly once.
  std::function<void(Emitter&, const KernelFrame&, const MatrixSite&, llvm::Value*)> store_c;
  /// Called when all elements of a tile have been handed over, by the same thread, for what needs
  /// them together (norms of rows: see default_tiles' whole_rows).
  std::function<void(Emitter&, const KernelFrame&, const TileSite&)> finish_tile;
  /// With store_c: C does not hold f32 of the product's size, so chains are parked in scratch.
  bool park_in_scratch = false;
};

/// Emits the product as kernel `symbol` with buffers
///   a, b (or the packed B when pack_b_ahead), c, [accumulator], extra_buffers...
void emit_matmul(Emitter& e, const std::string& symbol, const MatmulPlan& plan,
                 const MatmulHooks& hooks = {});

/// Emits the packing of B as kernel `symbol` with buffers b, packed, extra_buffers...
void emit_matmul_pack(Emitter& e, const std::string& symbol, const MatmulPlan& plan,
                      const MatmulHooks& hooks = {});

}  // namespace weir
