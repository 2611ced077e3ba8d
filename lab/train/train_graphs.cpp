#include "lab/train/train_graphs.h"

#include <fmt/format.h>

#include <map>

#include "lab/measure/attention_map.h"
#include "passes/measure_programs.h"
#include "passes/pipeline.h"
#include "passes/probes.h"
#include "support/error.h"

namespace weir {
namespace {

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

TrainingGraphs make_training_graphs(const RunConfig& config, const Target& target, bool measured) {
  Model model = built_model(config);
  CompileOptions options{.target = target, .gradients = {"*"}, .stop = Stage::differentiated};
  options.rewrites = config.rewrites;
  GraphPtr graph = run_pipeline(model.graph, options).graph;

  TrainingGraphs result;
  result.parameters = model.parameters;
  for (const AddedState& added : added_states(*model.graph, *graph))
    result.parameters.push_back({added.name, added.type, Initial::zeros, 0, false});
  result.sizes = sizes_of(resolved(config.model), result.parameters);
  TrainingOptions training{.optimizer = optimizer_options(config, result.parameters),
                           .micro_batches = config.micro_batches};
  result.plain = make_training_programs(graph, training);

  if (!config.data.validation.empty()) {
    options.gradients.clear();
    result.validation = make_measure_programs(measured_graph(model.graph, options).graph, {}).step;
  }

  std::vector<std::string> requests = config.measure.probes;
  result.kept_probes = ids_of(resolve_probes(graph, parse_probe_requests(requests)));
  if (measured && config.measure.metrics) {
    for (const std::string& request : metric_requests(metric_settings(config), config.length))
      requests.push_back(request);
    requests.push_back(map_request(config.measure.map_layer, config.measure.map_head));
    result.map_probe = map_id(config.measure.map_layer, config.measure.map_head);
  }
  if (!measured || requests.empty()) return result;
  training.probes = resolve_probes(graph, parse_probe_requests(requests));
  result.probed = make_training_programs(graph, training);
  result.has_probes = true;
  return result;
}

std::vector<GraphPtr> in_order(const TrainingPrograms& programs) {
  if (programs.step) return {programs.step};
  return {programs.prepare, programs.micro, programs.finish};
}

MemoryNeed shared_memory_need(const std::vector<GraphPtr>& planned) {
  MemoryNeed need;
  std::map<std::string, std::pair<int64_t, bool>> inputs;
  for (const GraphPtr& graph : planned) {
    need.arena = std::max(need.arena, memory_need(*graph).arena);
    for (int32_t id : graph->inputs()) {
      auto& [bytes, state] = inputs[graph->input_name(id)];
      bytes = graph->node(id).types[0].bytes();
      state |= graph->node(id).attrs.get_bool("state");
    }
  }
  for (const auto& [name, input] : inputs) (input.second ? need.state : need.inputs) += input.first;
  return need;
}

}  // namespace weir
