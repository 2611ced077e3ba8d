#pragma once
// When things happen in a training: the onset of attention sink, value drain, gradient sink and
// norm growth, from the measured steps of an arm alone.
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "lab/report/onset_settings.h"
#include "lab/report/report_data.h"

namespace weir {

enum class TimelineEvent : uint8_t { sink, value_drain, gradient_sink, norm_growth };
inline constexpr std::array kTimelineEvents = {TimelineEvent::sink, TimelineEvent::value_drain,
                                               TimelineEvent::gradient_sink,
                                               TimelineEvent::norm_growth};

/// What records, pages and tables call an event and its quantity.
struct EventFacts {
  TimelineEvent event;
  const char* key;       ///< "value_drain", of records
  const char* name;      ///< "value drain"
  const char* quantity;  ///< "value ratio"
  bool below;            ///< the event is a quantity below its threshold, not above it
};
const EventFacts& facts_of(TimelineEvent event);
double threshold_of(TimelineEvent event, const OnsetSettings& settings);

/// First measured step from which a quantity stays beyond its threshold for some measurements.
struct Onset {
  enum class State : uint8_t {
    reached,
    /// From `step` to the end it is beyond, but these are too few measurements.
    uncertain,
    never,
    missing  ///< records do not have the quantity
  };
  State state = State::missing;
  int64_t step = -1;    ///< of reached and uncertain
  int64_t before = -1;  ///< the measured step before it, between which and `step` it lies; -1: none
};
/// "reached", "uncertain", "never", "missing".
const char* state_name(Onset::State state);

/// The onset in one series. A value that is no number is not beyond the threshold. An onset that
/// passes (a quantity beyond the threshold for long enough and back later) counts; the first one
/// is returned. `steps` ascend and are as many as `values`; `measurements` is at least 1.
Onset find_onset(std::span<const int64_t> steps, std::span<const double> values, double threshold,
                 bool below, int64_t measurements);

struct PlaceOnset {
  int64_t layer = 0;
  int64_t head = -1;  ///< -1: the quantity is that of the layer
  Onset onset;
};

struct EventTimeline {
  std::vector<PlaceOnset> places;  ///< every layer, or every head of it, in order
  /// Where it comes first: the earliest place that is reached, else the earliest uncertain one,
  /// else the place that came nearest to the threshold. No place: `missing`.
  PlaceOnset first;
};

struct Timeline {
  std::vector<int64_t> steps;
  std::array<EventTimeline, kTimelineEvents.size()> events;  ///< in the order of kTimelineEvents

  const EventTimeline& of(TimelineEvent event) const { return events[static_cast<size_t>(event)]; }
};

/// The sink score is by query head, the value ratio by key and value head (of records without it by
/// layer), R_GS and norm ratio by layer.
Timeline timeline_of(const ReportArm& arm, const OnsetSettings& settings);

/// "step 64", "never", "not certain (from step 450)", "not measured".
std::string onset_text(const Onset& onset);
/// "layer 2, head 1".
std::string place_text(const PlaceOnset& place);

/// {"state", "step", "before"}; a step that there is not is null.
nlohmann::ordered_json onset_json(const Onset& onset);
/// By event: {"first": {layer, head, ...onset}, "places": [...]}.
nlohmann::ordered_json timeline_json(const Timeline& timeline);
/// The settings as a record has them.
nlohmann::ordered_json onset_settings_json(const OnsetSettings& settings);

}  // namespace weir
