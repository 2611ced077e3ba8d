#include "codegen/attention/memory.h"

namespace weir {

using Emitted = llvm::Value;

BlockMatrix head_rows(Emitter& e, const KernelArray& array, Emitted* b, Emitted* h, Emitted* t0,
                      int64_t T, int64_t H, int64_t d) {
  Emitted* row = e.add(e.mul(b, T), t0);
  return {array, e.mul(e.add(e.mul(row, H), h), d), H * d, 1};
}

Emitted* predicted_next_tile(Emitter& e, const KernelFrame& frame, Emitted* tile) {
  Emitted* next = e.add(tile, 1);
  Emitted* others = e.mul(e.sub(frame.last_tile, frame.first_tile), e.target().cores - 1);
  return e.select(e.ir().CreateICmpSLT(next, frame.last_tile), next, e.add(next, others));
}

}  // namespace weir
