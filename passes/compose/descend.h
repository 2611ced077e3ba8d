#pragma once
// From a differentiated loss to one step of plain gradient descent, w - rate dL/dw: no moments, no
// clipping, nothing shared between the weights. Where independent models are computed side by side
// along an axis, one that diverges leaves the others as they are.
#include <string>
#include <vector>

#include "ir/graph.h"
#include "passes/probes.h"

namespace weir {

/// The program (stage instrumented). `graph` (stage differentiated) returns the loss and `grad.<w>`
/// for every trained state input w. Added input: `rate`, f32[]. Outputs: those of the graph without
/// the gradients, and every w under its own name. Probes see the weights before the step. User
/// errors, all at once: no gradients, a gradient of something that is no state, a weight that the
/// graph returns itself, probes of values that are gone.
GraphPtr make_descent_program(const GraphPtr& graph, const std::vector<ResolvedProbe>& probes);

}  // namespace weir
