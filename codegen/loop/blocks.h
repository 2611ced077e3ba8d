#pragma once
// Square blocks of rows and columns of a row nest whose loads jump along the vector axis and are
// contiguous along another: they are loaded along that one and transposed in registers.
#include "codegen/loop/rows.h"

namespace weir {

/// Computes the rows of one block of the nest's blocked axis, at whose index the body stands, over
/// the tile's columns from `column` on (nullptr: all).
void emit_transposed_blocks(Emitter& e, const RowNest& nest, const LoopBuffers& buffers,
                            LoopBody& body, Emitted* column);

}  // namespace weir
