#include "lab/measure/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <set>

#include "lab/measure/metric_probes.h"
#include "lab/measure/progress.h"
#include "lab/measure/record_values.h"
#include "passes/pipeline.h"
#include "passes/probes.h"
#include "support/error.h"

namespace weir {
namespace {

// One sequence of the model, with the rewrites.
GraphPtr rewritten(const ModelSource& source, int64_t length, CompileOptions options) {
  options.probes.clear();
  options.stop = Stage::built;
  return run_pipeline(source.build(1, length).graph, options).graph;
}

// What the requests are called when their values arrive.
std::vector<std::string> probe_ids(const ModelSource& source, const RunRequest& request,
                                   const std::vector<std::string>& probes, int64_t& kept) {
  if (probes.empty()) return {};
  CompileOptions options = request.options;
  options.probes = probes;
  options.compose = {.purpose = Purpose::measure};
  const GraphPtr model = source.build(1, request.length).graph;
  options.stop = Stage::instrumented;
  run_pipeline(model, options);  // all that can be wrong with them
  const GraphPtr built = rewritten(source, request.length, request.options);
  std::vector<std::string> ids;
  for (ResolvedProbe probe : resolve_probes(built, parse_probe_requests(probes), options.loss)) {
    ids.push_back(probe.id);
    probe.gradient = false;  // of the type of its value
    // An upper bound: as if nothing were reduced after the batch.
    const Type& type = built->type(expect(find_probed(*built, probe)));
    kept += static_cast<int64_t>(sizeof(double)) * type.elements() *
            (probe.batch_step >= 0 ? 1 : request.batch);
  }
  return ids;
}

}  // namespace

void check_probes(const ModelSource& source, int64_t length, const CompileOptions& options,
                  const std::vector<std::string>& probes) {
  int64_t kept = 0;
  probe_ids(source, {.batch = 1, .length = length, .options = options}, probes, kept);
}

Measurer::Measurer(const ModelSource& source, const TokenBatch& batch, const MeasureTask& task)
    : source_(source), batch_(batch), task_(task) {
  if (task_.metrics.sink_token < 0 || task_.metrics.sink_token >= batch.length)
    user_error("measure", "the sink token {} is not one of the {} of a sequence.",
               task_.metrics.sink_token, batch.length);
  task_.metrics.set_rewrites(task.options.rewrites);
  RunRequest request{.batch = batch.batch, .length = batch.length, .options = task.options};
  kept_ids_ = probe_ids(source, request, task.probes, request.kept);
  plan_ = plan_metrics(rewritten(source, batch.length, task.options), task_.metrics,
                       source.sizes.layers, batch.length);
  request.probes = plan_.requests;
  request.probes.insert(request.probes.end(), task.probes.begin(), task.probes.end());
  request.kept += RecordValues::bytes(source.sizes, batch.batch, batch.length);
  request.kept += task.kept;
  const Activity activity("planning and compiling the measurement");
  run_ = std::make_unique<ModelRun>(source, request, task.run);
}

Measurer::~Measurer() = default;

void Measurer::take(const MeasuredCheckpoint& checkpoint) {
  taken_ = checkpoint;
  loaded_ = false;
}

void Measurer::unload() {
  run_->unload();
  loaded_ = false;
}

MeasureResult Measurer::measure(const ProfileSink& profile) {
  MeasureResult result;
  auto start = std::chrono::steady_clock::now();
  const Activity activity("measuring");
  if (!loaded_) run_->load();
  loaded_ = task_.keep_loaded;
  result.load_seconds = seconds_since(start);

  start = std::chrono::steady_clock::now();
  RecordValues values(source_.sizes, task_.metrics, batch_.batch, batch_.length,
                      {.kept = {kept_ids_.begin(), kept_ids_.end()},
                       .may_come_again = true,
                       .threads = run_->threads(),
                       .plan = plan_});
  const double loss =
      run_->run(batch_, [&](const ProbeValue& value) { values.add(value); }, profile);
  if (values.needs_second_pass())
    run_->run(batch_, [&](const ProbeValue& value) { values.add_again(value); });
  // A record of long sequences is large itself while it is written.
  if (!loaded_) run_->unload();
  MeasuredModel sizes = source_.sizes;
  sizes.parameters = run_->parameters();
  if (taken_) sizes.name = taken_->name;
  result.record =
      values.record(sizes, {.step = taken_ ? taken_->step : std::nullopt,
                            .batch = batch_.batch,
                            .length = batch_.length,
                            .loss = loss,
                            .around = batch_.around,
                            .provenance = taken_ ? taken_->provenance : task_.provenance});
  for (const std::string& id : kept_ids_) result.kept[id] = std::move(values.values().at(id));
  result.run_seconds = seconds_since(start);
  return result;
}

int64_t heaviest_key(const ModelSource& source, const TokenBatch& batch, const MeasureTask& task) {
  RunRequest request{.batch = batch.batch,
                     .length = batch.length,
                     .probes = {"blocks.*.attn.hook_pattern : column_mass, mean(batch,head)"},
                     .loss = false,
                     .options = task.options};
  const Activity activity("looking for the sink");
  ModelRun run(source, request, task.run);
  run.load();
  std::vector<double> mass(static_cast<size_t>(batch.length), 0);
  run.run(batch, [&](const ProbeValue& value) {
    const HostTensor by_key = value.host();
    for (size_t s = 0; s < mass.size(); ++s) mass[s] += by_key.data[s];
  });
  return std::max_element(mass.begin(), mass.end()) - mass.begin();
}

std::vector<AttentionMap> attention_maps(const ModelSource& source, const TokenBatch& batch,
                                         const MeasureTask& task,
                                         const std::vector<std::pair<int64_t, int64_t>>& heads) {
  RunRequest request{.batch = 1, .length = batch.length, .loss = false, .options = task.options};
  for (const auto& [layer, head] : heads) {
    if (layer < 0 || layer >= source.sizes.layers || head < 0 || head >= source.sizes.heads)
      user_error("measure", "there is no head {}.{}: the model has layers 0..{} of heads 0..{}.",
                 layer, head, source.sizes.layers - 1, source.sizes.heads - 1);
    request.probes.push_back(map_request(layer, head));
  }
  const TokenBatch first{1,
                         batch.length,
                         {batch.tokens.begin(), batch.tokens.begin() + batch.length},
                         {batch.targets.begin(), batch.targets.begin() + batch.length},
                         {}};
  request.kept = static_cast<int64_t>(heads.size()) * map_bytes(batch.length);
  RunSettings settings = task.run;
  settings.memory = std::numeric_limits<int64_t>::max();
  settings.rows = 0;
  const Activity activity("attention maps for the report");
  ModelRun run(source, request, settings);
  run.load();
  Tensors values;
  run.run(first, [&](const ProbeValue& value) { values[value.id] = value.host(); });
  std::vector<AttentionMap> maps;
  for (const auto& [layer, head] : heads)
    maps.push_back(
        {layer, head, map_cells(batch.length, kMapSide), values.at(map_id(layer, head))});
  return maps;
}

}  // namespace weir
