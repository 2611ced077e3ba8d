#pragma once
// What a pass is, and what may be asked of the compiler. A pass is a free function from graph to
// graph, documented in the header of its own file; it returns the same pointer when it changes
// nothing. The rows of passes/pipeline say when each one runs.
#include <functional>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "passes/decompose.h"
#include "passes/rewrites.h"
#include "support/target.h"

namespace weir {

struct CompileOptions {
  /// Decides numerics (passes/lower) and kernels.
  Target target = host_target();
  /// What to differentiate: the output `loss` with respect to the inputs that these patterns choose
  /// (passes/select_inputs: "*" is every weight); each gets an output `grad.<input>`. Empty: the
  /// program stays forward only.
  std::vector<std::string> gradients = {};
  std::string loss = "loss";
  /// Probe requests, "hook glob[.grad] : reduction, reduction ..." (passes/probes).
  std::vector<std::string> probes = {};
  Rewrites rewrites = {};
  /// Bytes that arena, states and inputs of a program may need together (passes/recompute); 0: no
  /// limit. Exceeding it is no error of the pipeline: memory_need tells.
  int64_t memory = 0;
  DecomposeMode decompose = DecomposeMode::lower;
  /// The last stage wanted; `weir dump --stage S` is run_pipeline with stop = S.
  Stage stop = Stage::planned;
};

enum class HowOften : uint8_t {
  once,
  until_fixed  ///< again until it returns the same pointer; a pass that never does is our bug
};

struct Pass {
  std::string name;
  std::function<GraphPtr(const GraphPtr&, const CompileOptions&)> function;
  Stage before;  ///< runs on graphs of this stage
  Stage after;   ///< the runner stamps it, also when `when` skips the pass
  HowOften how_often;
  std::function<bool(const CompileOptions&)> when;
  std::string reason;
};

}  // namespace weir
