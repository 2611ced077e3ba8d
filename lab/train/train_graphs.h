#pragma once
// From a configuration to the graphs of its training step, with and without the probes of a
// measured step. Both compute the same bits; only the probed one emits instructions for probes.
#include <set>
#include <string>
#include <vector>

#include "lab/measure/metrics.h"
#include "lab/train/config.h"
#include "passes/pass.h"
#include "passes/plan_memory.h"
#include "passes/training_step.h"

namespace weir {

struct TrainingGraphs {
  /// The weights, theta of the learned V-scale among them, in the order of the states.
  std::vector<Parameter> parameters;
  MeasuredModel sizes;
  TrainingPrograms plain, probed;  ///< of stage instrumented; `probed` is empty without probes
  bool has_probes = false;
  /// The loss alone, of a part of a batch; null where nothing is validated.
  GraphPtr validation;
  std::set<std::string> kept_probes;  ///< ids of measure.probes, which are stored as arrays
  std::string map_probe;              ///< id of the attention map, "" if there is none
};

MetricSettings metric_settings(const RunConfig& config);
OptimizerOptions optimizer_options(const RunConfig& config,
                                   const std::vector<Parameter>& parameters);

/// The model's graph (stage built) with its parameters; `config.model.vocabulary` is resolved. The
/// rewrites of the configuration are applied later, by the pipeline.
Model built_model(const RunConfig& config);

/// `measured`: whether the run measures at all. User errors: those of the model's configuration and
/// of the probe requests, all of a kind at once.
TrainingGraphs make_training_graphs(const RunConfig& config, const Target& target, bool measured);

/// The programs of a step in running order: one, or prepare, micro and finish.
std::vector<GraphPtr> in_order(const TrainingPrograms& programs);

/// What programs that share their states and one arena need together.
MemoryNeed shared_memory_need(const std::vector<GraphPtr>& planned);

}  // namespace weir
