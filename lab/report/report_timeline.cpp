#include "lab/report/report_timeline.h"

#include <fmt/format.h>

#include <algorithm>

#include "lab/report/compare_summary.h"
#include "lab/report/growth_fit.h"
#include "lab/report/page_text.h"
#include "lab/report/report_summary.h"

namespace weir {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

std::string arm_swatch(const ReportRun& run, size_t a) {
  return fmt::format("<span class=\"swatch arm{}\"></span>{}", a % 8, escaped(run.arms[a].name));
}

// What comes first, of the onsets that are certain.
std::string first_text(const Timeline& timeline) {
  int64_t earliest = -1;
  std::string names;
  for (TimelineEvent event : kTimelineEvents) {
    const Onset& onset = timeline.of(event).first.onset;
    if (onset.state != Onset::State::reached || (earliest >= 0 && onset.step > earliest)) continue;
    names = onset.step == earliest ? fmt::format("{} and {}", names, facts_of(event).name)
                                   : facts_of(event).name;
    earliest = onset.step;
  }
  return names.empty() ? "none" : names;
}

std::string onsets_table(const ReportRun& run, const std::vector<Timeline>& timelines) {
  std::vector<Cell> header = {{"arm"}};
  for (TimelineEvent event : kTimelineEvents) header.push_back({facts_of(event).name, true});
  header.push_back({"first", true});
  std::vector<std::vector<Cell>> rows;
  for (size_t a = 0; a < run.arms.size(); ++a) {
    std::vector<Cell>& row = rows.emplace_back();
    row.push_back({arm_swatch(run, a)});
    for (TimelineEvent event : kTimelineEvents) {
      const PlaceOnset& first = timelines[a].of(event).first;
      const bool there = first.onset.state == Onset::State::reached ||
                         first.onset.state == Onset::State::uncertain;
      row.push_back(
          {onset_text(first.onset) + (there ? fmt::format(", {}", place_text(first)) : ""), true});
    }
    row.push_back({first_text(timelines[a]), true});
  }
  return number_table(header, rows);
}

// "step 64", of several heads "step 64 (2 of 4 heads)".
std::string layer_onset(const EventTimeline& timeline, int64_t layer) {
  std::vector<PlaceOnset> own;
  for (const PlaceOnset& place : timeline.places)
    if (place.layer == layer) own.push_back(place);
  if (own.empty()) return onset_text({});
  const auto reached = [](const PlaceOnset& place) {
    return place.onset.state == Onset::State::reached;
  };
  const auto count = std::count_if(own.begin(), own.end(), reached);
  if (count == 0) {
    const auto uncertain = std::find_if(own.begin(), own.end(), [](const PlaceOnset& place) {
      return place.onset.state == Onset::State::uncertain;
    });
    return onset_text((uncertain == own.end() ? own.front() : *uncertain).onset);
  }
  int64_t step = -1;
  for (const PlaceOnset& place : own)
    if (reached(place) && (step < 0 || place.onset.step < step)) step = place.onset.step;
  return fmt::format("step {}{}", step,
                     own.size() > 1 ? fmt::format(" ({} of {} heads)", count, own.size()) : "");
}

std::string layers_table(const Timeline& timeline, int64_t layers) {
  std::vector<Cell> header = {{"layer"}};
  for (TimelineEvent event : kTimelineEvents) header.push_back({facts_of(event).name, true});
  std::vector<std::vector<Cell>> rows;
  for (int64_t l = 0; l < layers; ++l) {
    std::vector<Cell>& row = rows.emplace_back();
    row.push_back({fmt::format("{}", l)});
    for (TimelineEvent event : kTimelineEvents)
      row.push_back({layer_onset(timeline.of(event), l), true});
  }
  return number_table(header, rows);
}

// "0.31 ± 0.02", or the number alone where the points do not determine it.
std::string with_error(double value, double error) {
  return error == error ? fmt::format("{} ± {}", short_number(value), short_number(error))
                        : short_number(value);
}

std::string growth_table(const std::vector<GrowthFit>& fits) {
  const std::vector<Cell> header = {
      {"layer"},     {"A"},    {"&lambda;"},      {"&gamma;"},          {"t<sub>0</sub>"},
      {"K"},         {"rmse"}, {"R<sup>2</sup>"}, {"extremum at step"}, {"points"},
      {"at a bound"}};
  std::vector<std::vector<Cell>> rows;
  for (size_t l = 0; l < fits.size(); ++l) {
    const GrowthFit& fit = fits[l];
    const double values[] = {fit.amplitude, fit.lambda, fit.gamma, fit.t0, fit.level};
    std::vector<Cell>& row = rows.emplace_back();
    row.push_back({fmt::format("{}", l)});
    for (size_t p = 0; p < 5; ++p)
      row.push_back({fit.fitted() ? with_error(values[p], fit.standard_error[p]) : "-"});
    row.push_back({fit.fitted() ? short_number(fit.rmse) : "-"});
    row.push_back({fit.r_squared == fit.r_squared ? fmt::format("{:.4f}", fit.r_squared) : "-"});
    row.push_back({fit.peak_step == fit.peak_step ? short_number(fit.peak_step) : "-"});
    row.push_back({fmt::format("{}", fit.points)});
    row.push_back({fit.at_bound ? "yes" : "no"});
  }
  return number_table(header, rows);
}

std::string section(const char* id, const char* title, const char* lead, const std::string& tables,
                    const std::string& definition) {
  return fmt::format(
      "<section class=\"figure\" id=\"{}\">\n<h2>{}</h2>\n<p class=\"lead\">{}</p>\n"
      "<div class=\"panels\"></div>\n{}\n<div class=\"definition\"><p>{}</p></div>\n</section>\n",
      id, title, lead, tables, definition);
}

}  // namespace

ordered_json timeline_data(const ReportRun& run, const OnsetSettings& settings) {
  ordered_json arms = ordered_json::array();
  for (const ReportArm& arm : run.arms) {
    ordered_json growth = ordered_json::array();
    for (const GrowthFit& fit : growth_of(arm)) growth.push_back(growth_json(fit));
    arms.push_back(
        {{"events", timeline_json(timeline_of(arm, settings))}, {"growth", std::move(growth)}});
  }
  return {{"settings", onset_settings_json(settings)}, {"arms", std::move(arms)}};
}

std::string timeline_section(const ReportRun& run, const OnsetSettings& settings) {
  std::vector<Timeline> timelines;
  std::string layers, fits;
  for (size_t a = 0; a < run.arms.size(); ++a) {
    const ReportArm& arm = run.arms[a];
    timelines.push_back(timeline_of(arm, settings));
    const auto count = arm.model.at("layers").get<int64_t>();
    const std::string heading = "<h3>" + arm_swatch(run, a) + "</h3>";
    if (count > 1 || timelines[a].of(TimelineEvent::sink).places.size() > 1)
      layers += heading + "<div class=\"scroll\">" + layers_table(timelines[a], count) + "</div>";
    if (const std::vector<GrowthFit> own = growth_of(arm); !own.empty())
      fits += heading + "<div class=\"scroll\">" + growth_table(own) + "</div>";
  }
  const json shown = {{"onset", json(onset_settings_json(settings))}};
  return section(
             "timeline", "Timeline: what happens when",
             "In which order do sink, value drain, gradient sink and norm growth begin?",
             "<div class=\"scroll\">" + onsets_table(run, timelines) + "</div>" +
                 (layers.empty()
                      ? ""
                      : "<details><summary>By layer and head</summary>" + layers + "</details>"),
             escaped(onset_sentence(shown)) +
                 " The figure shows each quantity as a multiple of its threshold (of the value "
                 "ratio: the threshold as a multiple of it), so that all four cross the same line "
                 "at 1; a star marks an onset, an open one an onset that is not certain. Of a "
                 "chosen layer it is the head of that layer that comes first. Onsets are as exact "
                 "as measured steps are dense.") +
         section(
             "growth", "Growth of the largest activation",
             "Does the largest |x| rise and settle as a known curve does?",
             "<details><summary>Parameters by layer</summary>" + fits + "</details>",
             "f(t) = A e<sup>&minus;&lambda;x</sup> ln x + K with x = &gamma;t + t<sub>0</sub>, "
             "t the training step: the exponentially modulated logarithm of arXiv 2508.03616, "
             "fitted to the largest |x| of resid_post by least squares over the measured steps. "
             "<b>rmse</b>: root of the mean squared residual, in units of |x|. A standard error "
             "follows a parameter where the points determine all five; few measured steps often "
             "do not. At a bound: &lambda; (1e-4 to 10), &gamma; or t<sub>0</sub> is at an end of "
             "the range in which it is sought, and the parameters mean little, however well the "
             "curve fits.");
}

}  // namespace weir
