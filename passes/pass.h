#pragma once
// What a pass is, and what may be asked of the compiler. A pass is a free function from graph to
// graph, documented in the header of its own file; it returns the same pointer when it changes
// nothing. One pass, composition, makes several programs of a graph, and passes behind it run on
// each. The rows of passes/pipeline say when each one runs.
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "ir/graph.h"
#include "passes/compose/compose.h"
#include "passes/decompose.h"
#include "passes/rewrites.h"
#include "support/target.h"

namespace weir {

struct CompileOptions {
  /// Decides numerics (passes/lower) and kernels.
  Target target = host_target();
  /// What to differentiate: the output `loss` with respect to the inputs that these patterns choose
  /// (passes/select_inputs: "*" is every weight); each gets an output `grad.<input>`. Empty: the
  /// program stays forward only. A training step has all weights where none is named; a measurement
  /// is differentiated by what its probes need, whatever stands here.
  std::vector<std::string> gradients = {};
  std::string loss = "loss";
  /// Probe requests, "hook glob[.grad] : reduction, reduction ..." (passes/probes).
  std::vector<std::string> probes = {};
  Rewrites rewrites = {};
  /// Which programs are made of the graph.
  ComposeOptions compose = {};
  /// Bytes that arena, states and inputs of a program may need together (passes/recompute); 0: no
  /// limit. Exceeding it is no error of the pipeline: memory_need tells.
  int64_t memory = 0;
  /// none: the programs go through the pipeline once more, which then decomposes them.
  DecomposeMode decompose = DecomposeMode::lower;
  /// The last stage wanted; `weir dump --stage S` is run_pipeline with stop = S.
  Stage stop = Stage::planned;
  /// Whether WEIR_DEBUG=stop=N may end the passes before that; else it is a usage error.
  bool may_stop = false;
};

enum class HowOften : uint8_t {
  once,
  until_fixed  ///< again until it returns the same pointer; a pass that never does is our bug
};

using GraphPass = std::function<GraphPtr(const GraphPtr&, const CompileOptions&)>;
/// From one graph to the programs that compute it, in running order.
using ComposePass = std::function<std::vector<GraphPtr>(const GraphPtr&, const CompileOptions&)>;

struct Pass {
  std::string name;
  std::variant<GraphPass, ComposePass> function;
  Stage before;  ///< runs on graphs of this stage
  Stage after;   ///< the runner stamps it, also when `when` skips the pass
  HowOften how_often;
  std::function<bool(const CompileOptions&)> when;
  std::string reason;
};

}  // namespace weir
