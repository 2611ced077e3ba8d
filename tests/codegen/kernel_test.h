#pragma once
// Helpers to compile a kernel for every target this machine can run and to call it.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "codegen/llvm/emitter.h"
#include "codegen/llvm/jit.h"
#include "runtime/buffer.h"
#include "testing/runnable_targets.h"

namespace weir {

/// Compiles one kernel named "k" whose body `emit` writes.
class TestKernel {
 public:
  TestKernel(const Target& target, const std::vector<BufferUse>& uses,
             const std::function<void(Emitter&, const KernelFrame&)>& emit)
      : jit_(target, {.threads = 1}) {
    jit_.add({{"k", "", [&](Emitter& e) {
                 const KernelFrame frame = e.begin_kernel("k", uses);
                 emit(e, frame);
                 e.end_kernel();
               }}});
  }
  void operator()(std::vector<void*> buffers, int64_t first = 0, int64_t last = 1,
                  void* scratch = nullptr) const {
    jit_.kernel("k")(buffers.data(), first, last, scratch);
  }

 private:
  Jit jit_;
};

}  // namespace weir
