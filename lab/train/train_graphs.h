#pragma once
// From a configuration to the graphs of its training step, with and without the probes of a
// measured step. Both compute the same bits; only the probed one emits instructions for probes.
#include <set>
#include <string>
#include <vector>

#include "lab/measure/metrics.h"
#include "lab/train/config.h"
#include "models/model.h"
#include "passes/pass.h"

namespace weir {

struct TrainingGraphs {
  /// The weights, those that rewrites add among them, in the order of the states.
  std::vector<Parameter> parameters;
  MeasuredModel sizes;
  /// Of stage instrumented, in running order: the step, the step with probes (none without probes),
  /// and the loss of a part of a batch, with what is recalled of it (none where nothing is
  /// validated).
  std::vector<GraphPtr> plain, probed, validation;
  MetricPlan metrics;                 ///< of the record
  std::set<std::string> kept_probes;  ///< ids of measure.probes, which are stored as arrays
  std::string map_probe;              ///< id of the attention map, "" if there is none
};

/// Whether validation tells how many targets are recalled.
bool tells_recalled(const RunConfig& config);
MetricSettings metric_settings(const RunConfig& config);
/// How the optimiser moves a weight: Muon moves matrices but tables, AdamW moves the rest.
OptimizerKind rule_for(OptimizerKind kind, const Parameter& parameter);
OptimizerOptions optimizer_options(const RunConfig& config,
                                   const std::vector<Parameter>& parameters);

/// The weights of a model, and those that its rewrites add (ir/rewrite_state.h). `rewritten` is the
/// model's graph at any stage behind the rewrites.
std::vector<Parameter> trained_parameters(const Model& model, const Graph& rewritten);

/// What the pipeline is asked for: the step of a model of this configuration, without probes.
CompileOptions training_options(const RunConfig& config, const std::vector<Parameter>& parameters,
                                const Target& target);

/// The model's graph (stage built) with its parameters; `config.model.vocabulary` is resolved. The
/// rewrites of the configuration are applied later, by the pipeline.
Model built_model(const RunConfig& config);

/// `measured`: whether the run measures at all. User errors: those of the model's configuration and
/// of the probe requests, all of a kind at once.
TrainingGraphs make_training_graphs(const RunConfig& config, const Target& target, bool measured);

}  // namespace weir
