#pragma once
// Runs the phases of a kernel node on guarded buffers, as a program would.
#include <gtest/gtest.h>

#include "codegen/kernel_code.h"
#include "codegen/llvm/jit.h"
#include "interpret/interpret.h"
#include "testing/expect_close.h"

namespace weir::test {

/// A region compiled once; each call runs it on fresh buffers that end at an unmapped page (f32,
/// i32, i8 and u8). Outputs, workspace and scratch start as NaN; inputs must come back unchanged,
/// and each run may write only what it says.
class PhasesRunner {
 public:
  PhasesRunner(GraphPtr region, KernelPhases phases, const Target& target);
  Tensors operator()(const Tensors& inputs, int threads = 1) const;
  const KernelPhases& phases() const { return phases_; }

 private:
  GraphPtr region_;
  KernelPhases phases_;
  Jit jit_;
};

}  // namespace weir::test
