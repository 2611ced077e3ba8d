#pragma once
// What a kernel node cannot do without: its arithmetic and its traffic, from its region alone. Set
// against measured time and the machine's rates this says how near a kernel is to what limits it.
#include <cstdint>

#include "ir/graph.h"

namespace weir {

struct KernelCost {
  /// Operations of products, two a fused multiply-add. Causal attention counts half of its
  /// query-key pairs: two products forward and four backward; scores that a backward kernel
  /// computes again do not count, nor do those of statistics beside it.
  double products = 0;
  /// All others: one an element of an elementwise result or of a reduction's operand.
  double others = 0;
  /// Every operand and result once, of a table only the rows that are looked up.
  int64_t bytes = 0;

  double operations() const { return products + others; }
};

/// Of one run of a kernel node, or of the region of one.
KernelCost kernel_cost(const Node& kernel);
KernelCost region_cost(const Graph& region);

/// Operations of a training step of a decoder on B sequences of T tokens, by the usual count: six a
/// parameter that multiplies (all but the table of the input embedding) and token, and 6 layers B
/// T^2 D of causal attention.
double training_operations(int64_t multiplying_parameters, int64_t layers, int64_t B, int64_t T,
                           int64_t D);

}  // namespace weir
