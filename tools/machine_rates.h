#pragma once
// How fast this machine is, measured: the yardsticks of every kernel.
#include <cstdint>

#include "support/target.h"

namespace weir {

/// f32 operations a second of `threads` threads that do nothing but fused multiply-adds in
/// registers, two operations each; the best of a few rounds.
double peak_flops(const Target& target, int threads);

struct Bandwidth {
  double bytes_per_second = 0;
  int64_t array_bytes = 0;  ///< of each of the three arrays
};
/// Of a[i] = b[i] + s c[i] over arrays too large for the caches, reads and writes counted, without
/// the read that a write may cause.
Bandwidth memory_bandwidth(const Target& target, int threads);

}  // namespace weir
