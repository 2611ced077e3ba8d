#pragma once
// Numbers of every sequence as values of a built graph whose output `loss` is a cross entropy of
// B T rows, B and T those of its input `tokens`: what it loses, and how much of it is recalled.
#include "ir/graph.h"

namespace weir {

/// The graph with kSequenceLoss f32[B]: nats summed over the targets that count, whatever
/// `loss_scale` is. User errors: a graph that is not built or has no such loss.
GraphPtr with_sequence_loss(const GraphPtr& graph);
inline constexpr const char* kSequenceLoss = "sequence.loss";

/// The graph with kRecalled f32[B]: how many of the targets that count are recalled, that is, have
/// the largest logit of their row (or one as large). All logits are in memory for it. User errors:
/// as above.
GraphPtr with_recalled(const GraphPtr& graph);
inline constexpr const char* kRecalled = "sequence.recalled";

}  // namespace weir
