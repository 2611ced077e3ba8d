#pragma once
// What a graph of each stage is: an executable specification. The runner of passes checks it
// whenever a stage ends.
//
// Every stage
//   - inputs come first, with names of their own; operands come before their users
//   - types are those that infer_types gives; extents are positive
//   - attributes are those of ops.def, with the right kinds
//   - names and outputs refer to values that exist; output names differ
//   - an output with the name of a state input has its type
//   - a kernel's region has its operands' types as inputs and its results' types as outputs
//   - a probe has an id
// built, differentiated, instrumented
//   - no kernels; probes from instrumented on
// lowered
//   - no composites without a kernel of their own (op_trait::OwnKernel), no kernels
//   - no identity, straight_through, stop_gradient
//   - reductions are over the last axis alone, with lanes, or over other axes alone, without
//   - key_block is there on the ops that have it
// fused
//   - only inputs, kernels, reshapes and probes
//   - every region obeys the rules of lowered, is of stage lowered and holds no state, probe,
//     reshape or kernel; and the rules of its schedule (ir/schedule_rules.h)
// planned
//   - as fused; every kernel has one offset a result: a multiple of 64 that ends inside the arena,
//     or -1 - k for the state input k of the same size (passes/plan_memory proves that no two
//     overlap)
// Before planned nothing has an offset, and the graph no arena.
#include <string>

#include "ir/graph.h"

namespace weir {

/// An internal error that names each broken rule with its node and the node's line, up to ten.
void verify(const Graph& graph);

/// The same for a graph parsed from `file`: what is broken is the user's, so a UserError.
void verify_user(const Graph& graph, const std::string& file);

}  // namespace weir
