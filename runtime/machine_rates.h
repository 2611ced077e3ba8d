#pragma once
// How fast this machine is, measured: the yardsticks of every kernel. Clock rates and neighbours
// change within seconds, so whoever compares takes a reading before and one after.
#include <cstdint>

#include "runtime/buffer.h"
#include "runtime/threads.h"
#include "support/target.h"

namespace weir {

/// f32 operations a second of workers that do nothing but fused multiply-adds in registers, two
/// operations each: one reading, about 5 ms of wall time.
double fma_rate(const Target& target, const Workers& workers);
/// The same of the calling thread by its own processor time, which others disturb little.
double own_fma_rate(const Target& target);
/// The best of a few readings.
double peak_flops(const Target& target, int threads);

/// a[i] = b[i] + s c[i] over arrays too large for the caches.
class MemoryStream {
 public:
  explicit MemoryStream(const Target& target);
  /// Bytes a second of one pass, reads and writes counted, without the read that a write may cause.
  double rate(const Workers& workers);
  int64_t array_bytes() const { return static_cast<int64_t>(a_.bytes()); }

 private:
  Buffer a_, b_, c_;
};

struct Bandwidth {
  double bytes_per_second = 0;
  int64_t array_bytes = 0;  ///< of each of the three arrays
};
/// The best of a few passes.
Bandwidth memory_bandwidth(const Target& target, int threads);

}  // namespace weir
