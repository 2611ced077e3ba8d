#pragma once
// fused -> fused: values that the backward pass needs are computed again there instead of being
// kept since the forward pass. A copy of a kernel gives the same bits as the kernel, so this
// changes memory and time, never a number.
#include "ir/graph.h"

namespace weir {

struct RecomputeOptions {
  /// Bytes that arena, states and inputs may need together. While they need more, products of
  /// matrices are computed again too, those first that free most bytes for an operation; 0: no
  /// limit.
  int64_t memory = 0;
  /// Programs whose results never need more than this keep everything: it lies in the caches or
  /// costs nothing.
  int64_t worth_it = int64_t{128} << 20;
  /// About how many programs are made to see what computing products again gains. With fewer than
  /// twice as many values to choose from they are taken one at a time, of more in groups.
  int64_t trials = 128;
};

/// What meeting a limit took; neither grows faster than the program.
struct RecomputeStats {
  int64_t trials = 0;  ///< programs made to see what was gained
  int64_t costs = 0;   ///< values whose cost was found
};

/// Whatever the limit, values of elementwise and row kernels and of epilogues that are kept across
/// the peak are computed again right before their first use after it, if what they are computed
/// from is kept anyway: normalised inputs and the SwiGLU product, where the residual stream, the
/// gate and its partner are kept. What is cheap is decided on what outputs need, and probes read
/// the first copy; the limit counts all of the program. Exceeding the limit is not an error here:
/// memory_need of the planned graph tells.
GraphPtr recompute(const GraphPtr& fused, const RecomputeOptions& options = {},
                   RecomputeStats* stats = nullptr);

}  // namespace weir
