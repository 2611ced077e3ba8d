#pragma once
// What the region of a kernel may hold, by schedule. S is the space that a kernel iterates over.
//
//   elementwise      elementwise and movement; every output has the same shape S
//   row              reductions over the last axis of operands of shape S; movement only upstream
//                    of every reduction; outputs of shape S, or S with 1 as last extent
//   column           elementwise and movement, then reductions over the same axes, not the last,
//                    then elementwise on the reduced shape, which is the shape of every output
//   matmul           one matmul of region inputs; elementwise nodes and outputs of its shape
//   attention, attention_stats, attention_map, attention_identities, embedding,
//   embedding_grad
//                    that node alone, on region inputs
//   attention_grad   that node alone, and perhaps the statistics of the same attention
//   loss_head        one linear_cross_entropy or linear_cross_entropy_grad alone, on region inputs
//
// Constants and iotas may stand anywhere.
#include <functional>
#include <string>

#include "ir/graph.h"

namespace weir {

/// Told of a broken rule: the node of the graph at fault, or -1 for the graph itself.
using RuleReport = std::function<void(int32_t node, const std::string& rule)>;

/// Checks the region of a kernel against the rules of the schedule of this name; that there is none
/// is a broken rule, too.
void check_schedule(const Graph& region, const std::string& schedule, const RuleReport& report);

}  // namespace weir
