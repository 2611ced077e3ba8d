#pragma once
// The merges of a byte-pair encoding by the ids of both parts: a flat hash table, as its look-ups
// are the inner loop of encoding a new word.
#include <bit>
#include <cstdint>
#include <vector>

namespace weir {

class MergeTable {
 public:
  struct Merge {
    int32_t rank = 0;
    int32_t id = 0;  ///< the token that replaces both parts
  };

  /// Makes room for `count` merges; all are set after this.
  void reserve(size_t count) {
    slots_.assign(std::bit_ceil(2 * count + 1), {});
    shift_ = 64 - std::countr_zero(slots_.size());
  }

  /// A pair that is set again has its last value.
  void set(int32_t left, int32_t right, Merge merge) {
    Slot& slot = slots_[place(key_of(left, right))];
    slot = {key_of(left, right), merge};
  }

  /// Null when the pair does not merge.
  const Merge* find(int32_t left, int32_t right) const {
    const Slot& slot = slots_[place(key_of(left, right))];
    return slot.key == kEmpty ? nullptr : &slot.merge;
  }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };
  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  /// The slot of the key, or the empty one where it would be; the table is at most half full.
  size_t place(uint64_t key) const {
    size_t at = shift_ == 64 ? 0 : (key * 0x9E3779B97F4A7C15U) >> shift_;
    while (slots_[at].key != key && slots_[at].key != kEmpty) at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  std::vector<Slot> slots_ = std::vector<Slot>(1);
  int shift_ = 64;
};

}  // namespace weir
