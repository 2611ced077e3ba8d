#pragma once
// The matrix product C = A B (+ accumulator) on f32: what is multiplied and how it is cut.
//
// Every element of C is one chain of fused multiply-adds over ascending k, started from zero or
// from the accumulator; between blocks of k it is parked in memory. Tile choices therefore never
// change a bit.
#include <cstdint>
#include <optional>

#include "support/target.h"

namespace weir {

/// One operand in memory, as stored: rows of contiguous elements, `row_stride` elements apart.
struct MatmulOperand {
  int64_t row_stride = 0;
  int64_t batch_stride = 0;  ///< elements; 0 repeats the matrix over the batch
  bool transposed = false;   ///< stored [columns, rows] of the matrix that is multiplied
  bool operator==(const MatmulOperand&) const = default;
};

enum class Accumulate {
  none,      ///< chains start from zero
  in_place,  ///< from C itself
  operand,   ///< from a matrix of its own, laid out as C
};

/// C[b, m, n] = sum over k of A[b, m, k] B[b, k, n].
struct MatmulSpec {
  int64_t m = 1, n = 1, k = 1;
  int64_t batch = 1;
  MatmulOperand a, b, c;  ///< c is never transposed
  Accumulate accumulate = Accumulate::none;
  bool operator==(const MatmulSpec&) const = default;
};

/// Where the innermost loop reads B.
enum class BPlace {
  packed_ahead,  ///< packed as a whole by a kernel of its own before
  packed,        ///< packed by every tile for itself, a block of k at a time
  raw,           ///< where it lies; not if it is transposed
};

/// How the product is cut. Rows and columns count elements of C, vectors count target.lanes() of
/// them.
struct MatmulTiles {
  int micro_rows = 1;        ///< rows of C in registers
  int micro_vectors = 1;     ///< vectors of columns of C in registers
  int64_t row_block = 1;     ///< rows of a tile; a multiple of micro_rows
  int64_t column_block = 1;  ///< columns of a tile; a multiple of micro_vectors * lanes
  int64_t depth_block = 1;   ///< steps of k between two visits to a tile; k or a multiple of lanes
  BPlace b = BPlace::packed;
  /// Strips of micro_rows rows of A are packed before use (true) or read where they lie.
  bool pack_a = true;
  int64_t panel_strips = 1;  ///< strips of a transposed A that are packed at a time: a panel
  bool operator==(const MatmulTiles&) const = default;
};

/// Tiles whose strips of A fit the first-level cache and whose packed columns of B half of the
/// second, as many as share out evenly over the cores.
MatmulTiles default_tiles(const Target& target, const MatmulSpec& spec);

/// Everything a caller has to know to run the product.
struct MatmulPlan {
  MatmulSpec spec;
  MatmulTiles tiles;
  int64_t row_tiles = 1, column_tiles = 1;
  int64_t grid = 1;  ///< tiles of the product: ((batch * column tile) * row tile), rows fastest
  int64_t pack_grid = 0;  ///< tiles of the packing kernel; 0 when there is none
  /// Of the packed B: for each matrix and block of k, strips of micro_vectors vectors of columns as
  /// [k][column], the ragged one padded with zeros to vectors.
  int64_t packed_bytes = 0;
  int64_t scratch_bytes = 0;  ///< for each worker, of the product
};

/// Steps of k in a tile of the kernel that packs an untransposed B.
constexpr int64_t matmul_pack_steps = 32;

/// Where things lie in a worker's scratch: a packed panel of A at 0, packed columns of B, parked C,
/// a register block that is handed to a loop.
struct MatmulScratch {
  int64_t b_offset = 0, c_offset = 0, c_row_stride = 0, block_offset = 0, bytes = 0;
};
MatmulScratch matmul_scratch(const Target& target, const MatmulPlan& plan);

/// Whether tiles keep the rules stated above, registers and a sane size of scratch among them.
bool are_valid(const Target& target, const MatmulSpec& spec, const MatmulTiles& tiles);

/// UserError when `tiles` break a rule stated above.
MatmulPlan plan_matmul(const Target& target, const MatmulSpec& spec,
                       std::optional<MatmulTiles> tiles = {});

}  // namespace weir
