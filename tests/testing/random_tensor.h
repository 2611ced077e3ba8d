#pragma once
// Seeded random tensors and inputs of graphs: the same numbers on every machine.
#include "interpret/host_tensor.h"
#include "ir/graph.h"

namespace weir::test {

/// SplitMix64 (Steele, Lea, Flood 2014): one 64-bit state, a new number a call.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits();
  /// Uniform in [low, high).
  double uniform(double low, double high);
  /// Uniform in low .. high, both included.
  int64_t integer(int64_t low, int64_t high);
  bool chance(double probability) { return uniform(0, 1) < probability; }

 private:
  uint64_t state_;
};

/// Floats uniform in [low, high), rounded as the dtype stores them (f32 to a float, so that
/// compiled code starts from the same values); integers uniform in low .. high; bools even.
HostTensor random_tensor(const Type& type, double low, double high, Random& random);
HostTensor random_tensor(const Type& type, double low, double high, uint64_t seed);

/// Random values for every input of a graph. Integer inputs used as ids (of embedding, cross
/// entropy and their gradients, through movement too) stay inside the smallest vocabulary, and are
/// sometimes negative where all users ignore that; others are drawn from low .. high.
Tensors random_inputs(const Graph& graph, uint64_t seed, double low = -2, double high = 2);

}  // namespace weir::test
