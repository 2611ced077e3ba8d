#include "lab/train/train_graphs.h"

#include <fmt/format.h>

#include "lab/measure/attention_map.h"
#include "passes/pipeline.h"
#include "passes/probes.h"
#include "support/error.h"

namespace weir {
namespace {

OptimizerKind optimizer_kind(const std::string& name) {
  return name == "sgd" ? OptimizerKind::sgd : OptimizerKind::adamw;
}

MeasuredModel sizes_of(const ModelConfig& model, const std::vector<Parameter>& parameters) {
  MeasuredModel sizes{model.name,  model.layers,     model.d_model,
                      model.heads, model.kv_heads,   model.d_head,
                      model.d_ff,  model.vocabulary, 0};
  for (const Parameter& parameter : parameters) sizes.parameters += parameter.type.elements();
  return sizes;
}

std::set<std::string> ids_of(const std::vector<ResolvedProbe>& probes) {
  std::set<std::string> ids;
  for (const ResolvedProbe& probe : probes) ids.insert(probe.id);
  return ids;
}

}  // namespace

MetricSettings metric_settings(const RunConfig& config) {
  const MeasureConfig& m = config.measure;
  MetricSettings settings{.sink_token = m.sink_token,
                          .sink_window = m.sink_window,
                          .sink_threshold = m.sink_threshold,
                          .gradient_window = m.gradient_window,
                          .massive_absolute = m.massive_absolute,
                          .massive_ratio = m.massive_ratio,
                          .attention = config.rewrites.attention};
  settings.set_v_scale(config.rewrites.v_scale);
  return settings;
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
  for (const Parameter& parameter : parameters)
    if (parameter.decay) options.decay.push_back(parameter.name);
  return options;
}

Model built_model(const RunConfig& config) {
  return build_model(config.model, config.batch / config.micro_batches, config.length);
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
    for (const std::string& request : metric_requests(metric_settings(config), config.length))
      requests.push_back(request);
    requests.push_back(map_request(config.measure.map_layer, config.measure.map_head));
    result.map_probe = map_id(config.measure.map_layer, config.measure.map_head);
  }

  // What both steps have in common: their bits are equal because they part here, behind everything
  // that simplifies, and because fusion is decided without probes.
  CompileOptions common = training_options(config, model.parameters, target);
  common.probes = requests;
  common.stop = Stage::differentiated;
  const GraphPtr graph = run_pipeline(model.graph, common).graph;
  result.kept_probes = ids_of(resolve_probes(graph, parse_probe_requests(config.measure.probes)));

  CompileOptions options = training_options(config, model.parameters, target);
  result.plain = run_pipeline(graph, options).programs;
  options.probes = requests;
  if (measured && !requests.empty()) result.probed = run_pipeline(graph, options).programs;
  if (!config.data.validation.empty())
    result.validation = run_pipeline(model.graph, {.target = target,
                                                   .rewrites = config.rewrites,
                                                   .compose = {.purpose = Purpose::measure},
                                                   .stop = Stage::instrumented})
                            .programs;

  result.parameters = model.parameters;
  for (const AddedState& added : added_states(*model.graph, *graph))
    result.parameters.push_back({added.name, added.type, Initial::zeros, 0, false});
  result.sizes = sizes_of(resolved(config.model), result.parameters);
  return result;
}

}  // namespace weir
