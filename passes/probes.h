#pragma once
// Probes: requests resolved against the hook names of a graph, and their reductions appended to it.
// What the graph computed before, it computes after, node for node.
#include <optional>
#include <string>
#include <vector>

#include "ir/edit.h"
#include "passes/probe_request.h"

namespace weir {

/// A value that can be probed.
struct Hook {
  std::string name;
  Type type;
  bool has_gradient = false;      ///< whether `<name>.grad` can be asked for
  std::vector<std::string> axes;  ///< what its axes are called in requests
};

/// All hooks of a graph by name: its named values and its state inputs. In a built graph a hook has
/// a gradient if `loss` depends on it, later if its gradient is in the graph.
std::vector<Hook> list_hooks(const GraphPtr& graph, const std::string& loss = "loss");

/// One reduction with axes as numbers.
struct ProbeStep {
  ReductionKind kind = ReductionKind::sum;
  std::vector<int64_t> axes = {};
  int64_t start = 0, limit = 0;
};

struct ResolvedProbe {
  std::string id;    ///< "<name>[.grad]:<reductions>" with canonical reductions, or ":raw"
  std::string name;  ///< of the hook
  bool gradient = false;
  std::vector<ProbeStep> steps = {};
  std::vector<std::string> axes = {};  ///< of the result; reduced ones have size 1
  /// The step that reduces the batch axis, at which the chain can be split over micro-batches; -1
  /// if there is none.
  int64_t batch_step = -1;
};

/// What the requests ask of this graph, each hook and reduction once. One usage error lists the
/// requests that match nothing, with the nearest names, and the reductions that do not fit the
/// values they match, with the axes there are. A glob with `.grad` matches hooks with a gradient.
std::vector<ResolvedProbe> resolve_probes(const GraphPtr& graph,
                                          const std::vector<ProbeRequest>& requests,
                                          const std::string& loss = "loss");

/// The names whose gradients the probes need: `named` of DifferentiateOptions.
std::vector<std::string> probed_gradients(const GraphPtr& graph,
                                          const std::vector<ResolvedProbe>& probes);

/// The graph (stage differentiated) followed by the reductions of the probes, each ending in a
/// probe node (stage instrumented). A user error lists values that are no longer in the graph.
GraphPtr insert_probes(const GraphPtr& graph, const std::vector<ResolvedProbe>& probes);

/// Steps first .. last-1 appended to `editor`, where whole steps are completed.
Value apply_probe_steps(GraphEditor& editor, const ResolvedProbe& probe, Value x, int64_t first,
                        int64_t last);
/// The batch step in two parts: what one micro-batch gives, how two of those join, what the first
/// one joins with, and the result for `micro_batches` of them.
Value partial_step(GraphEditor& editor, const ProbeStep& step, Value x);
Op join_op(const ProbeStep& step);
double join_identity(const ProbeStep& step);
/// `count`: how many elements were reduced to one, over all micro-batches.
Value complete_step(GraphEditor& editor, const ProbeStep& step, Value joined, int64_t count);
/// How many elements of a value of this shape the step reduces to one.
int64_t reduced_count(const ProbeStep& step, const Shape& shape);
/// The value that a probe starts from, or nothing if it is not in the graph.
std::optional<Value> find_probed(const Graph& graph, const ResolvedProbe& probe);

}  // namespace weir
