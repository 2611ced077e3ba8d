#include "lab/report/timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "support/error.h"

namespace weir {

using nlohmann::ordered_json;

namespace {

constexpr EventFacts kFacts[] = {
    {TimelineEvent::sink, "sink", "attention sink", "sink score", false},
    {TimelineEvent::value_drain, "value_drain", "value drain", "value ratio", true},
    {TimelineEvent::gradient_sink, "gradient_sink", "gradient sink", "R_GS", false},
    {TimelineEvent::norm_growth, "norm_growth", "norm growth", "norm ratio", false},
};

struct Series {
  int64_t layer, head;
  std::vector<double> values;  // by measured step
};

std::vector<Series> layer_series(const ReportArm& arm, const std::string& key) {
  std::vector<Series> all;
  const auto& first = arm.measured.front().by_layer;
  if (!first.contains(key)) return all;
  for (size_t l = 0; l < first.at(key).size(); ++l) {
    Series series{static_cast<int64_t>(l), -1, {}};
    for (const MeasuredStep& step : arm.measured) {
      const auto found = step.by_layer.find(key);
      series.values.push_back(found == step.by_layer.end() ? kNaN : found->second.at(l));
    }
    all.push_back(std::move(series));
  }
  return all;
}

std::vector<Series> head_series(const ReportArm& arm, const std::string& key) {
  std::vector<Series> all;
  const auto& first = arm.measured.front().by_head;
  if (!first.contains(key)) return all;
  for (size_t l = 0; l < first.at(key).size(); ++l)
    for (size_t h = 0; h < first.at(key)[l].size(); ++h) {
      Series series{static_cast<int64_t>(l), static_cast<int64_t>(h), {}};
      for (const MeasuredStep& step : arm.measured) {
        const auto found = step.by_head.find(key);
        const bool there =
            found != step.by_head.end() && l < found->second.size() && h < found->second[l].size();
        series.values.push_back(there ? found->second[l][h] : kNaN);
      }
      all.push_back(std::move(series));
    }
  return all;
}

std::vector<Series> series_of(const ReportArm& arm, TimelineEvent event) {
  switch (event) {
    case TimelineEvent::sink:
      return head_series(arm, "sink_score");
    case TimelineEvent::value_drain: {
      std::vector<Series> heads = head_series(arm, "norm.value.ratio");
      return heads.empty() ? layer_series(arm, "norm.value.ratio") : heads;
    }
    case TimelineEvent::gradient_sink:
      return layer_series(arm, "gradient_sink_ratio");
    case TimelineEvent::norm_growth:
      return layer_series(arm, "norm.resid_post.ratio");
  }
  internal_error_at("no event");
}

// How near a series came to the event: larger is nearer.
double nearest(const Series& series, bool below) {
  double best = -std::numeric_limits<double>::infinity();
  for (double value : series.values)
    if (!std::isnan(value)) best = std::max(best, below ? -value : value);
  return best;
}

int rank(Onset::State state) {
  switch (state) {
    case Onset::State::reached:
      return 0;
    case Onset::State::uncertain:
      return 1;
    case Onset::State::never:
      return 2;
    case Onset::State::missing:
      return 3;
  }
  internal_error_at("no state");
}

ordered_json place_json(const PlaceOnset& place) {
  ordered_json json = {{"layer", place.layer}};
  if (place.head >= 0) json["head"] = place.head;
  json.update(onset_json(place.onset));
  return json;
}

}  // namespace

const EventFacts& facts_of(TimelineEvent event) { return kFacts[static_cast<size_t>(event)]; }

double threshold_of(TimelineEvent event, const OnsetSettings& settings) {
  switch (event) {
    case TimelineEvent::sink:
      return settings.sink_score;
    case TimelineEvent::value_drain:
      return settings.value_ratio;
    case TimelineEvent::gradient_sink:
      return settings.gradient_sink_ratio;
    case TimelineEvent::norm_growth:
      return settings.norm_ratio;
  }
  internal_error_at("no event");
}

const char* state_name(Onset::State state) {
  switch (state) {
    case Onset::State::reached:
      return "reached";
    case Onset::State::uncertain:
      return "uncertain";
    case Onset::State::never:
      return "never";
    case Onset::State::missing:
      return "missing";
  }
  internal_error_at("no state");
}

Onset find_onset(std::span<const int64_t> steps, std::span<const double> values, double threshold,
                 bool below, int64_t measurements) {
  WEIR_CHECK(steps.size() == values.size(), "{} steps, {} values", steps.size(), values.size());
  if (values.empty()) return {};
  const auto wanted = static_cast<size_t>(measurements);
  size_t length = 0;  // of the row of values beyond the threshold that ends here
  const auto found = [&](Onset::State state, size_t end) {
    const size_t begin = end - length;
    return Onset{state, steps[begin], begin == 0 ? -1 : steps[begin - 1]};
  };
  for (size_t i = 0; i < values.size(); ++i) {
    // False for NaN.
    const bool beyond = below ? values[i] < threshold : values[i] > threshold;
    length = beyond ? length + 1 : 0;
    if (length == wanted) return found(Onset::State::reached, i + 1);
  }
  if (length > 0) return found(Onset::State::uncertain, values.size());
  return {Onset::State::never, -1, -1};
}

Timeline timeline_of(const ReportArm& arm, const OnsetSettings& settings) {
  Timeline timeline;
  for (const MeasuredStep& step : arm.measured) timeline.steps.push_back(step.step);
  for (TimelineEvent event : kTimelineEvents) {
    const bool below = facts_of(event).below;
    EventTimeline& result = timeline.events[static_cast<size_t>(event)];
    double best = 0;
    for (const Series& series : series_of(arm, event)) {
      const PlaceOnset place{
          series.layer, series.head,
          find_onset(timeline.steps, series.values, threshold_of(event, settings), below,
                     settings.measurements)};
      const double near = nearest(series, below);
      const auto order = [](const PlaceOnset& one, double how_near) {
        return std::tuple(rank(one.onset.state), one.onset.step, -how_near);
      };
      if (result.places.empty() || order(place, near) < order(result.first, best)) {
        result.first = place;
        best = near;
      }
      result.places.push_back(place);
    }
  }
  return timeline;
}

std::string onset_text(const Onset& onset) {
  switch (onset.state) {
    case Onset::State::reached:
      return fmt::format("step {}", onset.step);
    case Onset::State::uncertain:
      return fmt::format("not certain (from step {})", onset.step);
    case Onset::State::never:
      return "never";
    case Onset::State::missing:
      return "not measured";
  }
  internal_error_at("no state");
}

std::string place_text(const PlaceOnset& place) {
  return place.head < 0 ? fmt::format("layer {}", place.layer)
                        : fmt::format("layer {}, head {}", place.layer, place.head);
}

ordered_json onset_json(const Onset& onset) {
  const auto step = [](int64_t value) {
    return value < 0 ? ordered_json(nullptr) : ordered_json(value);
  };
  return {{"state", state_name(onset.state)},
          {"step", step(onset.step)},
          {"before", step(onset.before)}};
}

ordered_json timeline_json(const Timeline& timeline) {
  ordered_json json = ordered_json::object();
  for (TimelineEvent event : kTimelineEvents) {
    const EventTimeline& one = timeline.of(event);
    ordered_json places = ordered_json::array();
    for (const PlaceOnset& place : one.places) places.push_back(place_json(place));
    json[facts_of(event).key] = {
        {"first", one.places.empty() ? ordered_json(nullptr) : place_json(one.first)},
        {"places", std::move(places)}};
  }
  return json;
}

ordered_json onset_settings_json(const OnsetSettings& settings) {
  ordered_json json = ordered_json::object();
  for (TimelineEvent event : kTimelineEvents)
    json[facts_of(event).key] = {{"quantity", facts_of(event).quantity},
                                 {"beyond", facts_of(event).below ? "below" : "above"},
                                 {"threshold", threshold_of(event, settings)}};
  json["measurements"] = settings.measurements;
  return json;
}

}  // namespace weir
