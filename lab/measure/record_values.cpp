#include "lab/measure/record_values.h"

#include <algorithm>

#include "lab/measure/metric_probes.h"

namespace weir {

RecordValues::RecordValues(const MeasuredModel& model, const MetricSettings& settings,
                           int64_t batch, int64_t length, Options options)
    : settings_(settings), options_(std::move(options)), workers_(options_.threads) {
  if (!options_.record) return;
  for (int64_t l = 0; l < model.layers; ++l)
    if (!options_.plan.missing.contains(raw_resid_post().id(l)))
      streams_.try_emplace(raw_resid_post().id(l), length, model.d_model,
                           batch * length * model.d_model, settings.massive_absolute,
                           options_.may_come_again);
}

void RecordValues::add(const ProbeValue& value) {
  const auto stream = streams_.find(value.id);
  if (stream != streams_.end())
    value.view.floats([&](auto elements) { stream->second.add(elements, workers_); });
  if (stream == streams_.end() || options_.kept.contains(value.id))
    add_probe_value(values_, value.id, value.host());
}

bool RecordValues::needs_second_pass() const {
  return std::any_of(streams_.begin(), streams_.end(),
                     [](const auto& stream) { return stream.second.needs_second_pass(); });
}

void RecordValues::add_again(const ProbeValue& value) {
  const auto stream = streams_.find(value.id);
  if (stream == streams_.end() || !stream->second.misses_median()) return;
  value.view.floats([&](auto elements) { stream->second.add_again(elements, workers_); });
}

std::string RecordValues::record(const MeasuredModel& model, const Measurement& measurement) {
  std::map<int64_t, Outliers> outliers;
  for (int64_t l = 0; l < model.layers; ++l)
    if (streams_.contains(raw_resid_post().id(l))) outliers[l] = {};
  workers_.parallel_tiles(model.layers, [&](int64_t first, int64_t last, int) {
    for (int64_t l = first; l < last; ++l)
      if (const auto found = outliers.find(l); found != outliers.end())
        found->second = streams_.at(raw_resid_post().id(l)).result(settings_.massive_ratio);
  });
  Measurement whole = measurement;
  whole.plan = options_.plan;
  return metric_record(model, settings_, whole, values_, outliers, workers_);
}

int64_t RecordValues::bytes(const MeasuredModel& model, int64_t batch, int64_t length,
                            bool kept_parts) {
  // The record's token curves - 26, and two for each head of values - as numbers, JSON and text.
  constexpr int64_t bytes_a_number = 96, whatever_else = int64_t{16} << 20;
  const int64_t numbers = model.layers * length * (26 + 2 * model.kv_heads);
  const int64_t stream = batch * length * model.d_model;
  return model.layers * OutlierStatistics::bytes(stream, kept_parts) + numbers * bytes_a_number +
         whatever_else;
}

}  // namespace weir
