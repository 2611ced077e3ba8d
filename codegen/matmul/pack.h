#pragma once
// Packing: copies a strip of a matrix into the order in which the innermost loop of the product
// reads it.
#include <functional>

#include "codegen/llvm/emitter.h"

namespace weir {

/// A strip of `width` neighbouring rows of A (or columns of B), `present` of which exist.
struct PackedStrip {
  bool depth_contiguous;  ///< k runs along stored rows (A as it is, B transposed)
  int64_t width;          ///< elements a step of k takes in the packed strip
  int64_t present;        ///< of them in the matrix; the others are packed as zeros
  llvm::Value* begin;     ///< index of the first row of A or column of B
  llvm::Value* depth_begin;
  llvm::Value* depth;       ///< steps of k to pack
  int64_t depth_remainder;  ///< depth modulo lanes where `ragged` holds, else depth is a multiple
  llvm::Value* ragged;      ///< i1
  /// Whether up to a vector behind the strip may be overwritten, which lets a strip narrower than a
  /// vector be stored without masks.
  bool may_spill = false;
  /// Where columns are contiguous: after so many steps of k, the memory of both strips is asked
  /// for.
  int64_t steps_ahead = 0;
};

/// Gives `lanes` elements from (stored row, stored column) on; those outside the mask are 0.
using StripLoader =
    std::function<llvm::Value*(llvm::Value* row, llvm::Value* column, llvm::Value* mask)>;

/// Asks the memory for the line of (stored row, stored column), which need not exist.
using StripAsker = std::function<void(llvm::Value* row, llvm::Value* column)>;

/// Writes the strip to `to` as [depth][width].
void emit_pack_strip(Emitter& e, const PackedStrip& strip, const StripLoader& load,
                     const StripAsker& ask, llvm::Value* to);

}  // namespace weir
