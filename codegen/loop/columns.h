#pragma once
// Emits the loops of a column nest: reductions over axes other than the last, every output element
// one sequential chain in ascending row-major order of the reduced indices.
#include "codegen/loop/rows.h"

namespace weir {

/// Computes tiles [first, last) of the nest.
void emit_columns(Emitter& e, const ColumnNest& nest, const LoopBuffers& buffers, Emitted* first,
                  Emitted* last);

}  // namespace weir
