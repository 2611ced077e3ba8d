#pragma once
// What a code generator returns for one kernel node, whatever its schedule: the fixed grid of
// tiles, the scratch memory a thread needs, and the recipe that emits the function.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "codegen/matmul/plan.h"

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

/// A buffer of the node that a function takes, as a position among inputs, outputs and workspace.
struct RunBuffer {
  int buffer = 0;
  bool written = false;
  int64_t offset = 0;  ///< bytes added to its base
  int64_t bytes = 0;   ///< that the function touches from there on; 0: all that there are
};

/// One call of one of a node's functions, as if all calls before it had ended: those that touch
/// other memory may still run.
struct KernelRun {
  int code = 0;
  std::vector<RunBuffer> buffers;  ///< empty: all, in order; outputs and workspace are written
};

/// The code of a kernel node that takes several steps with shared memory between them. A node's
/// buffers are the region's inputs, its outputs, and last the workspace if there is one.
struct KernelPhases {
  std::vector<KernelCode> codes;
  std::vector<KernelRun> runs;
  int64_t workspace_bytes = 0;            ///< undefined at the start; free again after the last run
  std::vector<MatmulSpec> products = {};  ///< whose tiles may be tuned, each once

  KernelPhases() = default;
  KernelPhases(KernelCode single) {  // NOLINT: a single function is the common case
    codes.push_back(std::move(single));
    runs.push_back({});
  }
};

}  // namespace weir
