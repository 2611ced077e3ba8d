#pragma once
// What a code generator returns for one kernel node, whatever its schedule: the fixed grid of
// tiles, the scratch memory a thread needs, and the recipe that emits the function.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace weir {

class Emitter;

/// Output `output` of a region is written into the buffer of input `input`.
struct InPlace {
  int input = 0;
  int output = 0;
  bool operator==(const InPlace&) const = default;
};

struct KernelCode {
  int64_t tiles = 0;          ///< the grid, a function of shapes and target alone
  int64_t scratch_bytes = 0;  ///< private memory of each thread during a call
  std::string key;            ///< with symbol, target and build, determines the emitted code
  /// Emits the function `symbol` of the kernel ABI; buffers are the region's inputs, then its
  /// outputs, in order. An output in place has a buffer entry of its own, of equal address.
  std::function<void(Emitter&, const std::string& symbol)> emit;
};

}  // namespace weir
