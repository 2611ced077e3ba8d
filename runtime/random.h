#pragma once
// Random numbers from a counter: draw n of stream s under seed k is a pure function of (k, s, n),
// so any draw can be had again without the ones before it, on any number of threads.
#include <array>
#include <cstdint>

namespace weir {

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four
/// 32-bit words from a 128-bit counter and a 64-bit key.
std::array<uint32_t, 4> philox(const std::array<uint32_t, 4>& counter, uint64_t key);

/// One stream of draws; copyable, its position is all of its state.
class Random {
 public:
  Random(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  uint32_t next();
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  /// Standard normal, by Box and Muller.
  double normal();
  /// Gamma of shape > 0 and scale 1 (Marsaglia and Tsang, 2000).
  double gamma(double shape);
  /// Uniform in [0, n), without bias.
  uint64_t below(uint64_t n);

 private:
  uint64_t seed_, stream_, block_ = 0;
  std::array<uint32_t, 4> words_ = {};
  int left_ = 0;
};

}  // namespace weir
