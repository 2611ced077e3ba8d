#pragma once
// Runs a region as a loop kernel on guarded buffers and compares it with the interpreter.
#include <gtest/gtest.h>

#include "codegen/llvm/jit.h"
#include "codegen/loop/kernel.h"
#include "interpret/interpret.h"
#include "testing/expect_close.h"
#include "testing/random_tensor.h"

namespace weir::test {

/// x86-64-v3 and v4, as far as this machine runs them.
std::vector<Target> loop_targets();

struct LoopRunOptions {
  std::vector<InPlace> in_place = {};
  int64_t split = 0;  ///< tiles a call, calls in descending order; 0: all tiles in one call
  bool optimised = true;
};

/// A region compiled once; each call runs it on fresh buffers that end at an unmapped page. Outputs
/// and scratch start as NaN; an input that is not overwritten must come back unchanged.
class LoopRunner {
 public:
  LoopRunner(GraphPtr region, const std::string& schedule, const Target& target,
             LoopRunOptions options = {});
  Tensors operator()(const Tensors& inputs) const;
  const KernelCode& code() const { return code_; }

 private:
  GraphPtr region_;
  LoopRunOptions options_;
  KernelCode code_;
  Jit jit_;
};

/// The graph without composites, reductions in kernel order with `lanes` for vectors of 16 values
/// (or as given), reshapes gone as far as they are free; inputs and outputs as they were.
GraphPtr lowered(const GraphPtr& graph, int64_t vector_lanes = 16);

/// Runs the region on random inputs on every target and compares with the interpreter.
void check_region(const GraphPtr& region, const std::string& schedule, Tolerance tolerance,
                  double low = -2, double high = 2, uint64_t seed = 1);

}  // namespace weir::test
