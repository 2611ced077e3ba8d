#include "lab/train/train_graphs.h"

#include <fmt/format.h>

#include "ir/rewrite_state.h"
#include "lab/measure/attention_map.h"
#include "passes/pipeline.h"
#include "passes/probes.h"
#include "passes/sequence_loss.h"
#include "support/error.h"

namespace weir {
namespace {

std::set<std::string> ids_of(const std::vector<ResolvedProbe>& probes) {
  std::set<std::string> ids;
  for (const ResolvedProbe& probe : probes) ids.insert(probe.id);
  return ids;
}

// The attention map of the report, of an attention node that a model of one's own may not have.
void add_map(const GraphPtr& built, const RunConfig& config, TrainingGraphs& graphs,
             std::vector<std::string>& requests) {
  const std::string request = map_request(config.measure.map_layer, config.measure.map_head);
  if (config.own_model) try {
      resolve_probes(built, parse_probe_requests({request}));
    } catch (const UserError&) {
      graphs.metrics.left_out.push_back("the attention map");
      return;
    }
  requests.push_back(request);
  graphs.map_probe = map_id(config.measure.map_layer, config.measure.map_head);
}

}  // namespace

bool tells_recalled(const RunConfig& config) { return config.data.kind == "recall"; }

MetricSettings metric_settings(const RunConfig& config) {
  const MeasureConfig& m = config.measure;
  MetricSettings settings{.sink_token = m.sink_token,
                          .sink_window = m.sink_window,
                          .sink_threshold = m.sink_threshold,
                          .gradient_window = m.gradient_window,
                          .massive_absolute = m.massive_absolute,
                          .massive_ratio = m.massive_ratio};
  settings.set_rewrites(config.rewrites);
  return settings;
}

OptimizerKind rule_for(OptimizerKind kind, const Parameter& parameter) {
  return rule_of(kind, parameter.type.rank() == 2 && !parameter.table);
}

OptimizerOptions optimizer_options(const RunConfig& config,
                                   const std::vector<Parameter>& parameters) {
  const OptimizerConfig& o = config.optimizer;
  OptimizerOptions options{.kind = optimizer_kind(o.kind),
                           .beta1 = o.beta1,
                           .beta2 = o.beta2,
                           .eps = o.eps,
                           .momentum = o.momentum,
                           .weight_decay = o.decay,
                           .clip = o.clip};
  for (const Parameter& parameter : parameters) {
    if (parameter.decay) options.decay.push_back(parameter.name);
    if (rule_for(options.kind, parameter) == OptimizerKind::muon)
      options.orthogonal.push_back(parameter.name);
  }
  return options;
}

Model built_model(const RunConfig& config) {
  const int64_t rows = config.batch / config.micro_batches;
  Model model = model_of(config).build(rows, config.length);
  check_model(model, rows, config.length);
  return model;
}

std::vector<Parameter> trained_parameters(const Model& model, const Graph& rewritten) {
  std::vector<Parameter> parameters = model.parameters;
  for (const AddedState& added : added_states(*model.graph, rewritten)) {
    const RewriteState* row = find_rewrite_state(added.name);
    const Initial initial = first_value_of(added.name) == 1 ? Initial::ones : Initial::zeros;
    parameters.push_back({added.name, added.type, initial, 0, row && row->decays});
  }
  return parameters;
}

CompileOptions training_options(const RunConfig& config, const std::vector<Parameter>& parameters,
                                const Target& target) {
  return {.target = target,
          .rewrites = config.rewrites,
          .compose = {.purpose = Purpose::train,
                      .parts = config.micro_batches,
                      .optimizer = optimizer_options(config, parameters)},
          .stop = Stage::instrumented};
}

TrainingGraphs make_training_graphs(const RunConfig& config, const Target& target, bool measured) {
  Model model = built_model(config);
  TrainingGraphs result;
  std::vector<std::string> requests = config.measure.probes;
  if (measured && config.measure.metrics) {
    const GraphPtr built =
        run_pipeline(model.graph,
                     {.target = target, .rewrites = config.rewrites, .stop = Stage::built})
            .graph;
    result.metrics =
        plan_metrics(built, metric_settings(config), config.model.layers, config.length);
    requests.insert(requests.end(), result.metrics.requests.begin(), result.metrics.requests.end());
    add_map(built, config, result, requests);
  }

  // What both steps have in common: their bits are equal because they part here, behind everything
  // that simplifies, and because fusion is decided without probes.
  CompileOptions common = training_options(config, model.parameters, target);
  common.probes = requests;
  common.stop = Stage::differentiated;
  const GraphPtr graph = run_pipeline(model.graph, common).graph;
  result.kept_probes = ids_of(resolve_probes(graph, parse_probe_requests(config.measure.probes)));

  result.parameters = trained_parameters(model, *graph);
  CompileOptions options = training_options(config, result.parameters, target);
  options.decompose = DecomposeMode::none;  // whoever plans them has the rest of the passes
  result.plain = run_pipeline(graph, options).programs;
  options.probes = requests;
  if (measured && !requests.empty()) result.probed = run_pipeline(graph, options).programs;
  if (config.data.is_validated()) {
    CompileOptions evaluation{.target = target,
                              .rewrites = config.rewrites,
                              .compose = {.purpose = Purpose::measure},
                              .decompose = DecomposeMode::none,
                              .stop = Stage::instrumented};
    GraphPtr evaluated = model.graph;
    if (tells_recalled(config)) {
      evaluated = with_recalled(evaluated);
      evaluation.probes = {kRecalled};
    }
    result.validation = run_pipeline(evaluated, evaluation).programs;
  }

  result.sizes = model_of(config).sizes;
  result.sizes.parameters = 0;
  for (const Parameter& parameter : result.parameters)
    result.sizes.parameters += parameter.type.elements();
  return result;
}

}  // namespace weir
