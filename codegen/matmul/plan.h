#pragma once
// The matrix product C = A B (+ accumulator): what is multiplied and how it is cut.
//
// Every element of C is one chain of fused multiply-adds over ascending k, started from zero or
// from the accumulator; between blocks of k the partial sum is spilled to memory as it is. Tile
// choices therefore never change a bit.
//
// Operands of i32 hold four bytes each, those of four neighbouring steps of k of the matrices as
// they are: unsigned ones of A, signed ones of B. A step of k here is then four of them, whose
// products are summed as i32, which is exact, or wraps.
//
// The tiles are those of BLIS: a micro-kernel computes mr x nr elements of C in registers from a
// micro-panel of A (mr rows) and one of B (nr columns); mc x nc elements of C are a tile, and kc
// steps of k are taken at a time.
#include <cstdint>
#include <optional>

#include "ir/type.h"
#include "support/target.h"

namespace weir {

/// One operand in memory, as stored: rows of contiguous elements, `row_stride` elements apart.
struct MatmulOperand {
  int64_t row_stride = 0;
  int64_t batch_stride = 0;  ///< elements; 0 repeats the matrix over the batch
  bool transposed = false;   ///< stored [columns, rows] of the matrix that is multiplied
  DType dtype = DType::f32;  ///< of its elements in memory, and where they are packed
  int64_t bytes(int64_t elements) const { return elements * dtype_size(dtype); }
  bool operator==(const MatmulOperand&) const = default;
};

enum class Accumulate {
  none,      ///< accumulators start from zero
  in_place,  ///< from C itself
  operand,   ///< from a matrix of its own, laid out as C
};

/// C[b, m, n] = sum over k of A[b, m, k] B[b, k, n].
struct MatmulSpec {
  int64_t m = 1, n = 1, k = 1;
  int64_t batch = 1;
  MatmulOperand a, b, c;  ///< c is never transposed; its type is the accumulator operand's too
  Accumulate accumulate = Accumulate::none;
  bool operator==(const MatmulSpec&) const = default;
};

/// The type in which products of these operands are summed. User error for element types that no
/// micro-kernel multiplies.
DType accumulator_of(const MatmulSpec& spec);

/// Where the micro-kernel reads B.
enum class BPacking {
  prepacked,  ///< packed as a whole by a kernel of its own before
  packed,     ///< packed by every tile for itself, a block of k at a time
  none,       ///< read where it lies; not if it is transposed
};

/// How the product is cut. Rows and columns count elements of C, vectors count target.lanes() of
/// them.
struct MatmulTiles {
  int mr = 1;          ///< rows of C in registers
  int nr_vectors = 1;  ///< vectors of columns of C in registers
  int64_t mc = 1;      ///< rows of a tile; a multiple of mr
  int64_t nc = 1;      ///< columns of a tile; a multiple of nr = nr_vectors * lanes
  int64_t kc = 1;      ///< steps of k between two visits to a tile; k or a multiple of lanes
  BPacking b = BPacking::packed;
  bool pack_a = true;  ///< micro-panels of A are packed before use, or else read where they lie
  int64_t panels_per_block = 1;  ///< micro-panels of a transposed A that are packed together
  bool operator==(const MatmulTiles&) const = default;
};

/// Tiles whose micro-panels of A fit the first-level cache and whose columns of B half of the
/// second, as many as load the cores evenly.
MatmulTiles default_tiles(const Target& target, const MatmulSpec& spec);

/// Everything a caller has to know to run the product.
struct MatmulPlan {
  MatmulSpec spec;
  MatmulTiles tiles;
  DType accumulator = DType::f32;
  int64_t row_tiles = 1, column_tiles = 1;
  int64_t grid = 1;  ///< tiles of the product: ((batch * column tile) * row tile), rows fastest
  int64_t pack_grid = 0;  ///< tiles of the packing kernel; 0 when there is none
  /// Of the prepacked B: for each matrix and block of k, micro-panels of nr columns as
  /// [k][column], the ragged one padded with zeros to vectors.
  int64_t packed_bytes = 0;
  int64_t scratch_bytes = 0;  ///< for each worker, of the product
};

/// Steps of k in a tile of the kernel that packs an untransposed B.
constexpr int64_t matmul_pack_steps = 32;

/// Where things lie in a worker's scratch: a packed block of A at 0, packed columns of B, spilled
/// partial sums, and a micro-tile that is handed to a rolled epilogue.
struct MatmulScratch {
  int64_t b_offset = 0, c_offset = 0, c_row_stride = 0, micro_tile_offset = 0, bytes = 0;
};
MatmulScratch matmul_scratch(const Target& target, const MatmulPlan& plan);

/// Whether tiles keep the rules stated above, registers and a sane size of scratch among them.
bool are_valid(const Target& target, const MatmulSpec& spec, const MatmulTiles& tiles);

/// UserError when `tiles` break a rule stated above.
MatmulPlan plan_matmul(const Target& target, const MatmulSpec& spec,
                       std::optional<MatmulTiles> tiles = {});

}  // namespace weir
