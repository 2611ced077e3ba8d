#pragma once
// The order of the passes, and the runner that every compilation goes through. The runner gives
// each pass its dump, check, time and "(unchanged)"; a pass never prints anything itself.
#include <functional>
#include <vector>

#include "passes/debug.h"
#include "passes/pass.h"

namespace weir {

/// All passes in order, the one table (pipeline.cpp).
const std::vector<Pass>& pipeline();
std::vector<std::string> pass_names();

/// What one pass did.
struct PassRecord {
  std::string pass;
  double seconds = 0;
  int rounds = 0;  ///< how often it ran; 0 if its condition skipped it
  bool changed = false;
  int32_t nodes = 0;  ///< of the graphs afterwards
};

struct PipelineResult {
  /// In running order: one, unless composition made *prepare*, *micro* and *finish*.
  std::vector<GraphPtr> programs;
  GraphPtr graph;  ///< the first of them
  std::vector<PassRecord> passes;
  /// Whether `stop=N` ended the run before the wanted stage.
  bool stopped = false;
};

/// The checker (verify of ir/verify.h unless a test sets another) called on the graph at the start
/// and at the end of every stage, and after every pass under WEIR_DEBUG=verify.
using Verifier = std::function<void(const Graph&)>;
Verifier& pipeline_verifier();

/// Runs the rows that lead from the graph's stage to `options.stop`, those of the last stage
/// included. A graph that is beyond that stage already is a user error. An internal error inside a
/// pass names it and the file in which its input graph was saved.
PipelineResult run_pipeline(const GraphPtr& graph, const CompileOptions& options);
/// The same of several programs of one stage, such as those of a result that stopped earlier.
PipelineResult run_pipeline(const std::vector<GraphPtr>& programs, const CompileOptions& options);
/// The same with rows and debugging of one's own.
PipelineResult run_pipeline(const std::vector<GraphPtr>& programs, const CompileOptions& options,
                            const std::vector<Pass>& passes, const DebugOptions& debug);
inline PipelineResult run_pipeline(const GraphPtr& graph, const CompileOptions& options,
                                   const std::vector<Pass>& passes, const DebugOptions& debug) {
  return run_pipeline(std::vector{graph}, options, passes, debug);
}

/// The table that WEIR_DEBUG=time prints.
std::string pass_table(const std::vector<PassRecord>& records);

}  // namespace weir
