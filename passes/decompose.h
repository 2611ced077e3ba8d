#pragma once
// Composites as primitives: for every composite row of ops.def the one formula that a back end
// without a kernel for it runs, and that autodiff differentiates when it has no rule of its own.
#include "ir/edit.h"

namespace weir {

/// Appends the formula of a composite to `editor` and returns what stands for its results.
/// `inputs` are values of `editor`; only elementwise ops, reductions, movement and matmul are
/// appended, with `where` as their place. In a graph of stage built the formula has the composite's
/// gradient too (row maxima are frozen, the variants of v_scale use straight_through); later it has
/// its value alone. Internal error if `op` is no composite.
std::vector<Value> decompose_node(GraphEditor& editor, Op op, const Attrs& attrs,
                                  const std::vector<Value>& inputs, const SharedText& where = {});

enum class DecomposeMode : uint8_t {
  none,   ///< all stay
  lower,  ///< composites that have a kernel of their own stay (has_own_kernel)
  all     ///< no composite stays
};

/// Whether the composite is compiled as one kernel, as its row in ops.def says: the attention
/// family but its full pattern, and the loss head.
bool has_own_kernel(Op op);

/// The graph without the composites that `mode` names. Stage, names and outputs stay.
GraphPtr decompose(const GraphPtr& graph, DecomposeMode mode);

}  // namespace weir
