#include "lab/report/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "lab/measure/nonfinite.h"
#include "lab/measure/statistics.h"
#include "lab/report/compare_data.h"
#include "lab/report/compare_numbers.h"
#include "lab/report/growth_fit.h"
#include "lab/report/timeline.h"
#include "support/error.h"
#include "support/text.h"
#include "support/versions.h"

namespace weir {

using nlohmann::ordered_json;

namespace {

/// The seeds of an arm at a grid point.
struct Group {
  std::string arm;
  ordered_json grid, overrides;
  std::vector<const Replicate*> replicates;  ///< ascending seeds
  std::vector<Curves> curves;
  std::vector<Timeline> timelines;

  size_t size() const { return replicates.size(); }
};

struct Point {
  ordered_json grid;
  std::vector<Group> groups;  ///< in the order of arms
  double tokens = 0;          ///< that all replicates have seen, and no more
  double loss = 0;            ///< at which they are compared
};

/// Numbers of a group at one place of each of its replicates.
using Reading = std::vector<std::optional<Between>>;

Reading read_tokens(const Group& group, double tokens) {
  Reading reading;
  for (const Curves& curves : group.curves) reading.push_back(at_tokens(curves, tokens));
  return reading;
}

Reading read_loss(const Group& group, double loss) {
  Reading reading;
  for (const Curves& curves : group.curves) reading.push_back(at_loss(curves, loss));
  return reading;
}

// Of the quantity, or where `q` is one behind the last the tokens; NaN where a replicate is not.
std::vector<double> values_at(const Group& group, const Reading& reading, size_t q) {
  std::vector<double> values;
  for (size_t i = 0; i < group.size(); ++i) {
    const Curves& curves = group.curves[i];
    const std::vector<double>& row = q < curves.values.size() ? curves.values[q] : curves.tokens;
    const std::optional<Between>& place = reading[i];
    values.push_back(place.has_value() ? value_between(row, *place) : kNaN);
  }
  return values;
}

ordered_json numbers(const std::vector<double>& values) {
  ordered_json json = ordered_json::array();
  for (double value : values) json.push_back(json_number(value));
  return json;
}

const char* key_of(size_t q) { return q < quantities().size() ? quantities()[q].key : "tokens"; }

/// Quantities, and at equal loss the tokens that it took.
size_t count_of(bool with_tokens) { return quantities().size() + (with_tokens ? 1 : 0); }

ordered_json spread_json(const Group& group, const Reading& reading, bool with_tokens) {
  ordered_json json = ordered_json::object();
  for (size_t q = 0; q < count_of(with_tokens); ++q) {
    const std::vector<double> values = values_at(group, reading, q);
    const Quartiles spread = quartiles_of(values);
    json[key_of(q)] = {{"median", json_number(spread.median)},
                       {"low_quartile", json_number(spread.low)},
                       {"high_quartile", json_number(spread.high)},
                       {"values", numbers(values)}};
  }
  return json;
}

// Median and quartiles over seeds at the tokens that every replicate has measured.
ordered_json curve_json(const Group& group) {
  std::vector<double> tokens = group.curves.front().tokens;
  for (const Curves& curves : group.curves)
    std::erase_if(tokens, [&](double at) {
      return !std::binary_search(curves.tokens.begin(), curves.tokens.end(), at);
    });
  ordered_json json = {{"tokens", tokens}};
  for (size_t q = 0; q < quantities().size(); ++q) {
    std::vector<double> low, middle, high;
    for (double at : tokens) {
      const Quartiles spread = quartiles_of(values_at(group, read_tokens(group, at), q));
      low.push_back(spread.low);
      middle.push_back(spread.median);
      high.push_back(spread.high);
    }
    json[quantities()[q].key] = {{"median", numbers(middle)},
                                 {"low_quartile", numbers(low)},
                                 {"high_quartile", numbers(high)}};
  }
  return json;
}

/// Places of the same seed in two groups.
std::vector<std::pair<size_t, size_t>> pairs_of(const Group& group, const Group& reference) {
  std::vector<std::pair<size_t, size_t>> pairs;
  for (size_t i = 0; i < group.size(); ++i)
    for (size_t j = 0; j < reference.size(); ++j)
      if (group.replicates[i]->seed == reference.replicates[j]->seed) pairs.emplace_back(i, j);
  return pairs;
}

ordered_json differences_json(const Group& group, const Reading& own, const Group& reference,
                              const Reading& other, bool with_tokens,
                              const BootstrapSettings& settings) {
  ordered_json json = ordered_json::object();
  for (size_t q = 0; q < count_of(with_tokens); ++q) {
    const std::vector<double> mine = values_at(group, own, q),
                              theirs = values_at(reference, other, q);
    std::vector<double> differences;
    for (const auto& [i, j] : pairs_of(group, reference))
      differences.push_back(mine[i] - theirs[j]);
    const PairedInterval interval = paired_interval(differences, settings);
    json[key_of(q)] = {{"median", json_number(interval.median)},
                       {"low", json_number(interval.low)},
                       {"high", json_number(interval.high)},
                       {"values", numbers(differences)}};
  }
  return json;
}

ordered_json onsets_json(const Group& group) {
  ordered_json json = ordered_json::object();
  for (TimelineEvent event : kTimelineEvents) {
    std::map<std::string, int64_t> counts;
    std::vector<double> steps;
    ordered_json by_seed = ordered_json::array();
    for (const Timeline& timeline : group.timelines) {
      const Onset& onset = timeline.of(event).first.onset;
      ++counts[state_name(onset.state)];
      // Never, and what may never be, is later than any step.
      steps.push_back(onset.state == Onset::State::reached
                          ? static_cast<double>(onset.step)
                          : std::numeric_limits<double>::infinity());
      by_seed.push_back(onset_json(onset));
    }
    const double middle = median(steps);
    ordered_json one = {{"median_step", std::isfinite(middle) ? ordered_json(middle) : nullptr}};
    for (Onset::State state : {Onset::State::reached, Onset::State::uncertain, Onset::State::never,
                               Onset::State::missing})
      one[state_name(state)] = counts[state_name(state)];
    one["seeds"] = std::move(by_seed);
    json[facts_of(event).key] = std::move(one);
  }
  return json;
}

// How many seeds have an event before all others, or at the same measured step as others.
ordered_json first_json(const Group& group) {
  std::map<TimelineEvent, int64_t> alone, together;
  int64_t none = 0;
  for (const Timeline& timeline : group.timelines) {
    std::vector<TimelineEvent> first;
    int64_t earliest = std::numeric_limits<int64_t>::max();
    for (TimelineEvent event : kTimelineEvents) {
      const Onset& onset = timeline.of(event).first.onset;
      if (onset.state != Onset::State::reached || onset.step > earliest) continue;
      if (onset.step < earliest) first.clear();
      earliest = onset.step;
      first.push_back(event);
    }
    none += first.empty();
    for (TimelineEvent event : first) ++(first.size() == 1 ? alone : together)[event];
  }
  ordered_json json = ordered_json::object();
  for (TimelineEvent event : kTimelineEvents)
    json[facts_of(event).key] = {{"alone", alone[event]}, {"together", together[event]}};
  json["none"] = none;
  return json;
}

// What one seed of an arm does with an event that the same seed of the reference has or has not.
const char* change_of(const Onset& own, const Onset& reference) {
  using State = Onset::State;
  if (own.state == State::missing || reference.state == State::missing) return "missing";
  if (own.state == State::uncertain || reference.state == State::uncertain) return "uncertain";
  if (own.state == State::never) return reference.state == State::never ? "neither" : "removed";
  if (reference.state == State::never) return "added";
  return own.step < reference.step ? "earlier" : own.step > reference.step ? "later" : "same";
}

ordered_json changes_json(const Group& group, const Group& reference) {
  ordered_json json = ordered_json::object();
  for (TimelineEvent event : kTimelineEvents) {
    ordered_json one = ordered_json::object();
    for (const char* change :
         {"later", "removed", "earlier", "added", "same", "neither", "uncertain", "missing"})
      one[change] = 0;
    std::vector<double> steps;
    for (const auto& [i, j] : pairs_of(group, reference)) {
      const Onset& own = group.timelines[i].of(event).first.onset;
      const Onset& other = reference.timelines[j].of(event).first.onset;
      ordered_json& count = one[change_of(own, other)];
      count = count.get<int64_t>() + 1;
      if (own.state == Onset::State::reached && other.state == Onset::State::reached)
        steps.push_back(static_cast<double>(own.step - other.step));
    }
    one["step_differences"] = steps;
    one["median_step_difference"] =
        steps.empty() ? ordered_json(nullptr) : ordered_json(median(steps));
    json[facts_of(event).key] = std::move(one);
  }
  return json;
}

ordered_json difference_json(const Group& group, const Point& point, const Group& reference,
                             const Point& its_point, const CompareOptions& options) {
  const auto pairs = pairs_of(group, reference);
  ordered_json seeds = ordered_json::array(), unpaired = ordered_json::array();
  for (const Replicate* one : group.replicates) {
    const bool paired = std::any_of(pairs.begin(), pairs.end(), [&](const auto& pair) {
      return group.replicates[pair.first] == one;
    });
    (paired ? seeds : unpaired).push_back(one->seed);
  }
  ordered_json json = {{"reference", {{"arm", reference.arm}, {"grid", reference.grid}}},
                       {"seeds", std::move(seeds)},
                       {"unpaired_seeds", std::move(unpaired)}};
  if (pairs.empty()) return json;
  json["coverage_at_most"] = largest_coverage(pairs.size());
  json["enough_seeds"] = largest_coverage(pairs.size()) >= options.bootstrap.confidence;
  json["equal_tokens"] =
      differences_json(group, read_tokens(group, point.tokens), reference,
                       read_tokens(reference, its_point.tokens), false, options.bootstrap);
  json["equal_loss"] =
      differences_json(group, read_loss(group, point.loss), reference,
                       read_loss(reference, its_point.loss), true, options.bootstrap);
  json["onsets"] = changes_json(group, reference);
  return json;
}

ordered_json replicate_json(const Group& group, size_t i) {
  const Replicate& one = *group.replicates[i];
  const Curves& curves = group.curves[i];
  ordered_json values = ordered_json::object(), growth = ordered_json::array();
  for (size_t q = 0; q < quantities().size(); ++q)
    values[quantities()[q].key] = numbers(curves.values[q]);
  for (const GrowthFit& fit : growth_of(one.measured)) {
    growth.push_back({{"layer", growth.size()}});
    growth.back().update(growth_json(fit));
  }
  return {{"seed", one.seed},
          {"folder", one.folder},
          {"steps", curves.steps},
          {"tokens", curves.tokens},
          {"values", std::move(values)},
          {"timeline", timeline_json(group.timelines[i])},
          {"growth", std::move(growth)}};
}

/// Replicates by grid point and arm, and what each arm is compared with.
class Comparer {
 public:
  Comparer(const CompareInput& input, const CompareOptions& options) : options_(options) {
    for (const Replicate& one : input.replicates)
      if (std::find(arms_.begin(), arms_.end(), one.arm) == arms_.end()) arms_.push_back(one.arm);
    for (const Replicate& one : input.replicates) group_of(one).replicates.push_back(&one);
    for (Point& point : points_) complete(point);
  }

  ordered_json points() const {
    ordered_json json = ordered_json::array();
    for (const Point& point : points_) json.push_back(point_json(point));
    return json;
  }
  const std::vector<std::string>& arms() const { return arms_; }

 private:
  Group& group_of(const Replicate& one) {
    auto point = std::find_if(points_.begin(), points_.end(),
                              [&](const Point& p) { return p.grid == one.grid; });
    if (point == points_.end()) point = points_.insert(point, Point{one.grid, {}});
    auto group = std::find_if(point->groups.begin(), point->groups.end(),
                              [&](const Group& g) { return g.arm == one.arm; });
    if (group == point->groups.end())
      group = point->groups.insert(group, Group{one.arm, one.grid, one.overrides, {}, {}, {}});
    return *group;
  }

  void complete(Point& point) const {
    const auto place = [&](const Group& group) {
      return std::find(arms_.begin(), arms_.end(), group.arm) - arms_.begin();
    };
    std::stable_sort(point.groups.begin(), point.groups.end(),
                     [&](const Group& a, const Group& b) { return place(a) < place(b); });
    point.tokens = std::numeric_limits<double>::infinity();
    point.loss = -std::numeric_limits<double>::infinity();
    for (Group& group : point.groups) {
      std::stable_sort(group.replicates.begin(), group.replicates.end(),
                       [](const Replicate* a, const Replicate* b) { return a->seed < b->seed; });
      for (const Replicate* one : group.replicates) {
        group.curves.push_back(curves_of(*one));
        group.timelines.push_back(timeline_of(one->measured, options_.onset));
        point.tokens = std::min(point.tokens, group.curves.back().tokens.back());
        // A replicate whose losses are all NaN has no lowest one, and no say in it.
        const double lowest = lowest_loss(group.curves.back());
        if (lowest > point.loss) point.loss = lowest;
      }
    }
    if (options_.loss) point.loss = *options_.loss;
  }

  /// The first arm of the point; of a comparison of one arm alone, that of the first point.
  std::pair<const Group*, const Point*> reference_of(const Point& point) const {
    const Point& from = arms_.size() == 1 ? points_.front() : point;
    const bool there = !from.groups.empty() && from.groups.front().arm == arms_.front();
    return {there ? &from.groups.front() : nullptr, &from};
  }

  ordered_json point_json(const Point& point) const {
    const auto [reference, its_point] = reference_of(point);
    ordered_json groups = ordered_json::array();
    for (const Group& group : point.groups) {
      ordered_json seeds = ordered_json::array(), replicates = ordered_json::array();
      for (size_t i = 0; i < group.size(); ++i) {
        seeds.push_back(group.replicates[i]->seed);
        replicates.push_back(replicate_json(group, i));
      }
      groups.push_back(
          {{"arm", group.arm},
           {"overrides", group.overrides},
           {"seeds", std::move(seeds)},
           {"equal_tokens", spread_json(group, read_tokens(group, point.tokens), false)},
           {"equal_loss", spread_json(group, read_loss(group, point.loss), true)},
           {"curve", curve_json(group)},
           {"onsets", onsets_json(group)},
           {"first", first_json(group)},
           {"difference", reference && reference != &group
                              ? difference_json(group, point, *reference, *its_point, options_)
                              : ordered_json(nullptr)},
           {"replicates", std::move(replicates)}});
    }
    return {{"grid", point.grid},
            {"tokens", point.tokens},
            {"step", step_of(point)},
            {"loss", json_number(point.loss)},
            {"arms", std::move(groups)}};
  }

  // Of the tokens, if it is the same in all arms, else null.
  static ordered_json step_of(const Point& point) {
    int64_t tokens_a_step = -1;
    for (const Group& group : point.groups)
      for (const Replicate* one : group.replicates) {
        if (tokens_a_step >= 0 && tokens_a_step != one->tokens_a_step) return nullptr;
        tokens_a_step = one->tokens_a_step;
      }
    return tokens_a_step <= 0 ? ordered_json(nullptr)
                              : ordered_json(static_cast<int64_t>(point.tokens) / tokens_a_step);
  }

  const CompareOptions& options_;
  std::vector<std::string> arms_;  ///< in the order in which they come
  std::vector<Point> points_;
};

std::string left_out_text(const LeftOut& one) {
  return fmt::format("{}{}{}: {}", one.folder, one.arm.empty() ? "" : ", " + one.arm,
                     one.seed.empty() ? "" : ", seed " + one.seed, one.why);
}

ordered_json settings_json(const CompareOptions& options) {
  const BootstrapSettings& bootstrap = options.bootstrap;
  return {{"onset", onset_settings_json(options.onset)},
          {"bootstrap",
           {{"of", "median of the differences of paired seeds"},
            {"resampled", "pairs of seeds, with replacement"},
            {"generator", "Philox4x32-10, a stream for each resample"},
            {"seed", bootstrap.seed},
            {"resamples", bootstrap.resamples},
            {"confidence", bootstrap.confidence},
            {"seeds_needed", pairs_needed(bootstrap.confidence)}}},
          {"loss", options.loss ? ordered_json(*options.loss) : ordered_json(nullptr)}};
}

}  // namespace

std::string compare_record(const std::vector<std::string>& folders, const CompareOptions& options) {
  const CompareInput input = read_comparison(folders);
  if (input.replicates.empty()) {
    Problems problems("compare");
    problems.add("no trained arm is left to compare. Finish the runs, or give other folders.");
    for (const LeftOut& one : input.left_out) problems.add(left_out_text(one));
    problems.raise();
  }
  const Comparer comparer(input, options);
  ordered_json versions = ordered_json::object(), meanings = ordered_json::array(),
               left_out = ordered_json::array();
  for (const auto& [name, version] : build_versions()) versions[name] = version;
  for (const Quantity& one : quantities())
    meanings.push_back({{"key", one.key},
                        {"title", one.title},
                        {"meaning", one.meaning},
                        {"logarithmic", one.logarithmic}});
  for (const LeftOut& one : input.left_out)
    left_out.push_back({{"folder", one.folder},
                        {"arm", one.arm},
                        {"seed", one.seed.empty() ? ordered_json(nullptr) : ordered_json(one.seed)},
                        {"why", one.why}});
  const ReportArm& first = input.replicates.front().measured;
  const ordered_json record = {
      {"format", "weir.compare/1"},
      {"provenance", {{"command", options.command}, {"folders", folders}, {"versions", versions}}},
      {"settings", settings_json(options)},
      {"model", first.model},
      {"tokens", first.tokens},
      {"quantities", std::move(meanings)},
      {"arms", comparer.arms()},
      {"left_out", std::move(left_out)},
      {"notes", input.notes},
      {"points", comparer.points()}};
  return record.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace weir
