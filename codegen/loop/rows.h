#pragma once
// Emits the loops of a row nest: elementwise regions and regions with row reductions.
#include "codegen/loop/body.h"
#include "codegen/loop/nest.h"

namespace weir {

/// Buffers by position among the region's inputs and outputs.
struct LoopBuffers {
  std::vector<Emitted*> inputs, outputs;
  Emitted* scratch = nullptr;
};

/// Computes tiles [first, last) of the nest.
void emit_rows(Emitter& e, const RowNest& nest, const LoopBuffers& buffers, Emitted* first,
               Emitted* last);

/// Sets the loop indices of `groups` from the number of the row they enumerate.
void set_indices(LoopBody& body, const std::vector<LoopGroup>& groups, Emitted* row);

/// Reductions in registers: the value that changes nothing (-0 for a sum, so that even the sign of
/// a zero stays), one step, and the fixed tree that joins the lanes of `parts`, of which there is a
/// power of two; lane i of part p is lane p * width + i.
Emitted* reduction_identity(Emitter& e, const Term& reduction, int lanes);
Emitted* combine(Emitter& e, const Term& reduction, Emitted* a, Emitted* b);
Emitted* join_lanes(Emitter& e, const Term& reduction, std::vector<Emitted*> parts);
/// A sum held in f32 or i32, as the node's dtype has it.
Emitted* finish_reduction(Emitter& e, const Term& reduction, Emitted* value);

}  // namespace weir
