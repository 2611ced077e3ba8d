// What libFuzzer calls; WEIR_FUZZ_TARGET names the parser.
#include <cstddef>
#include <cstdint>

#include "fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const weir::FuzzTarget& target = weir::fuzz_target(WEIR_FUZZ_TARGET);
  target.run({reinterpret_cast<const char*>(data), size});
  return 0;
}
