#pragma once
// How the loops of a region run: which axes are walked as one, which is the vector axis, how the
// iteration space is cut into tiles, in which phases a row with reductions is computed, and which
// values of a row are kept for later phases. All of it follows from region and target alone.
#include "codegen/loop/terms.h"
#include "support/target.h"

namespace weir {

/// Adjacent loop axes that every access steps through as through one; `axis` is the innermost of
/// them, whose strides count.
struct LoopGroup {
  int axis = 0;
  int64_t extent = 1;
};

/// One pass over a row: the reductions whose operands are complete once `level` earlier phases are,
/// over rows of equal extent.
struct Phase {
  int level = 0;
  int64_t extent = 0;
  std::vector<int> reductions;  ///< terms
};

/// A value of a row that stays in scratch memory from the pass that computes it first.
struct KeptRow {
  int slot = 0;
  int pass = 0;        ///< index of a phase
  int64_t extent = 0;  ///< of that pass; passes of another extent compute the value again
};

/// Rows of vectors: the outer groups are walked row by row, the vector axis along the row.
struct RowNest {
  LoopTerms terms;
  std::vector<LoopGroup> outer;  ///< outermost first
  int vector_axis = -1;          ///< loop axis, or -1 when a row is one scalar
  int64_t extent = 1;            ///< of the vector axis
  int64_t rows = 1;
  int width = 1;              ///< lanes of a vector
  int unroll = 1;             ///< vectors a loop step in a pass without reductions
  bool in_registers = false;  ///< rows so short that all vectors are written out, without a loop
  int64_t tile_rows = 1;
  int64_t tile_columns = 1;  ///< of the vector axis; the whole extent when there are reductions
  /// Innermost outer axis, along which an input is contiguous that jumps along the vector axis; -1
  /// if there is none. Its group then counts blocks of `width` rows, and `blocked_extent` is its
  /// own extent: a square block is loaded along this axis and transposed in registers.
  int blocked_axis = -1;
  int64_t blocked_extent = 0;
  std::vector<Phase> phases;
  std::map<int, KeptRow> kept;  ///< by term
  int64_t slot_bytes = 0;

  int64_t column_tiles() const { return (extent + tile_columns - 1) / tile_columns; }
  int64_t tiles() const { return (rows + tile_rows - 1) / tile_rows * column_tiles(); }
  int64_t scratch_bytes() const { return static_cast<int64_t>(kept.size()) * slot_bytes; }
};

/// Panels of columns: reductions over `reduced` axes, for every index of the `kept` ones, vectors
/// along the innermost kept axis.
struct ColumnNest {
  LoopTerms terms;
  std::vector<LoopGroup> kept;     ///< outermost first, without the vector axis
  std::vector<LoopGroup> reduced;  ///< outermost first: the order of summation
  int vector_axis = -1;
  int64_t extent = 1;
  int64_t rows = 1;  ///< product of the kept extents
  int width = 1;
  int panel = 1;  ///< vectors a panel
  std::vector<int> reductions;

  int64_t panels() const {
    const int64_t columns = static_cast<int64_t>(panel) * width;
    return (extent + columns - 1) / columns;
  }
  int64_t tiles() const { return rows * panels(); }
};

/// Outputs listed all have one shape; no term reduces.
RowNest plan_elementwise(const Graph& region, const std::vector<int>& outputs,
                         const Target& target);
/// All outputs; reductions over the last axis.
RowNest plan_row(const Graph& region, const Target& target);
/// All outputs; reductions over the same non-last axes.
ColumnNest plan_column(const Graph& region, const Target& target);

/// Indices along `axis`, within (0, extent), at which a choice of the terms changes.
std::vector<int64_t> breakpoints(const LoopTerms& terms, int axis, int64_t extent);

}  // namespace weir
