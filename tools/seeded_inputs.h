#pragma once
// Inputs for a program of which nothing is known but its text.
#include "interpret/host_tensor.h"
#include "ir/graph.h"

namespace weir {

/// Values for every input, the same on every machine for one seed. Floats are normal, matrices
/// scaled by the root of their last axis so that products stay near one; second moments
/// (adam.v.*) and single numbers (rates, scales) are positive. Integers that serve as ids are below
/// the smallest vocabulary they choose from, others below 8.
Tensors seeded_inputs(const Graph& graph, uint64_t seed);

}  // namespace weir
