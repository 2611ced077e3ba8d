#pragma once
// The counter-based generator of op random_bits: Philox2x32-10 (Salmon et al., "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011).
#include <cstdint>

namespace weir {

inline constexpr uint32_t kPhiloxMultiplier = 0xD256D193;
/// What the key grows by with every round (Weyl sequence).
inline constexpr uint32_t kPhiloxKeyStep = 0x9E3779B9;
inline constexpr int kPhiloxRounds = 10;

/// The first of the two words that the generator makes of the counter (low, high) under `key`.
constexpr uint32_t philox_2x32(uint32_t low, uint32_t high, uint32_t key) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t product = uint64_t{kPhiloxMultiplier} * low;
    low = static_cast<uint32_t>(product >> 32) ^ key ^ high;
    high = static_cast<uint32_t>(product);
    key += kPhiloxKeyStep;
  }
  return low;
}

}  // namespace weir
