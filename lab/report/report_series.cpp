#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>

#include "lab/measure/attention_map.h"
#include "lab/report/report_dose.h"
#include "lab/report/report_page.h"
#include "lab/report/report_timeline.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {

using nlohmann::json;

namespace {

// Numbers a page may carry, by kind; about seven bytes each.
constexpr size_t layer_budget = 600'000, head_budget = 150'000, token_budget = 400'000,
                 map_budget = 300'000, loss_points = 1500;

/// Rounds to five significant digits, counts what is not a number, and notes what was thinned.
class Writer {
 public:
  json number(double value) {
    ++total_;
    if (std::isfinite(value)) return std::strtod(fmt::format("{:.5g}", value).c_str(), nullptr);
    ++missing_;
    return nullptr;
  }

  template <typename T>
  json array(const std::vector<T>& values) {
    json result = json::array();
    for (const T& value : values) {
      if constexpr (std::is_same_v<T, double>)
        result.push_back(number(value));
      else
        result.push_back(array(value));
    }
    return result;
  }

  /// Indices of the steps to carry when each costs `cost` numbers of `budget`.
  std::vector<size_t> choose(const std::vector<int64_t>& steps, size_t cost, size_t budget,
                             const std::string& arm, const char* what) {
    const size_t count = std::max<size_t>(2, budget / std::max<size_t>(1, cost));
    std::vector<size_t> kept = thin_steps(steps, count);
    if (kept.size() < steps.size())
      notes_.push_back(
          fmt::format("{} of {}: {} of {} measured steps", what, arm, kept.size(), steps.size()));
    return kept;
  }

  void note(std::string text) { notes_.push_back(std::move(text)); }

  std::vector<std::string> notes() const {
    std::vector<std::string> result = notes_;
    if (missing_)
      result.push_back(fmt::format(
          "{} of {} numbers are NaN or infinite; they are gaps in the figures", missing_, total_));
    return result;
  }

 private:
  size_t total_ = 0, missing_ = 0;
  std::vector<std::string> notes_;
};

/// Training curves: every step, or means over groups of steps even in log2(step + 1).
json loss_curve(const LossCurve& curve, const ReportArm& arm, Writer& writer) {
  const size_t n = curve.step.size();
  std::vector<size_t> starts;
  if (n <= loss_points) {
    for (size_t i = 0; i < n; ++i) starts.push_back(i);
  } else {
    starts = thin_steps(curve.step, loss_points);
    writer.note(
        fmt::format("training curves of {}: {} steps as {} points, each the mean from its "
                    "step up to the next point",
                    arm.name, n, starts.size()));
  }
  json result = {{"step", json::array()}};
  for (size_t i : starts) result["step"].push_back(curve.step[i]);
  for (const auto& [key, values] : curve.columns) {
    json column = json::array();
    for (size_t i = 0; i < starts.size(); ++i) {
      const size_t end = i + 1 < starts.size() ? starts[i + 1] : n;
      double sum = 0;
      for (size_t j = starts[i]; j < end; ++j) sum += values[j];
      column.push_back(writer.number(sum / static_cast<double>(end - starts[i])));
    }
    result[key] = std::move(column);
  }
  return result;
}

using StepsAt = std::map<std::string, std::vector<std::vector<double>>> MeasuredStep::*;

size_t cost(const MeasuredStep& step, StepsAt member) {
  size_t total = 0;
  for (const auto& [key, layers] : step.*member)
    for (const auto& values : layers) total += values.size();
  return total;
}

/// Values by [step][layer][head or token] of the steps that the budget allows.
json by_layer_and(const ReportArm& arm, StepsAt member, const std::vector<size_t>& kept,
                  Writer& writer) {
  json steps = json::array(), series = json::object();
  for (size_t i : kept) {
    const MeasuredStep& step = arm.measured[i];
    steps.push_back(step.step);
    for (const auto& [key, values] : step.*member) series[key].push_back(writer.array(values));
  }
  return {{"steps", steps}, {"series", series}};
}

json by_layer(const ReportArm& arm, const std::vector<size_t>& kept, Writer& writer) {
  json steps = json::array(), series = json::object();
  for (size_t i : kept) {
    const MeasuredStep& step = arm.measured[i];
    steps.push_back(step.step);
    for (const auto& [key, values] : step.by_layer)
      if (!key.ends_with(".ratio")) series[key].push_back(writer.array(values));
  }
  return {{"steps", steps}, {"series", series}};
}

/// How many pairs of a query in [q, q_end) and a key in [k, k_end) causality allows.
double allowed_pairs(int64_t q, int64_t q_end, int64_t k, int64_t k_end) {
  int64_t pairs = 0;
  for (int64_t t = q; t < q_end; ++t) pairs += std::clamp<int64_t>(t + 1 - k, 0, k_end - k);
  return static_cast<double>(pairs);
}

/// First tokens of the cells of a map.
std::vector<int64_t> map_starts(const json& map) {
  if (map.contains("start")) return map["start"].get<std::vector<int64_t>>();
  std::vector<int64_t> starts(map["map"].size());
  for (size_t t = 0; t < starts.size(); ++t) starts[t] = static_cast<int64_t>(t);
  return starts;
}

/// A map of at most `side` groups of its cells, as means of what causality allows.
json attention_map(const json& map, int64_t side, const std::string& arm, Writer& writer) {
  const json& rows = map["map"];
  std::vector<int64_t> starts = map_starts(map);
  const auto length =
      map.contains("start") ? map["length"].get<int64_t>() : static_cast<int64_t>(starts.size());
  const MapCells groups = map_cells(static_cast<int64_t>(starts.size()), side);
  starts.push_back(length);
  json weights = json::array(), labels = json::array(), first = json::array();
  for (int64_t q = 0; q < groups.count(); ++q) {
    json row = json::array();
    for (int64_t k = 0; k <= q; ++k) {
      double sum = 0, count = 0;
      for (int64_t t = groups.start(q); t < groups.start(q + 1); ++t)
        for (int64_t s = groups.start(k); s < groups.start(k + 1) && s <= t; ++s) {
          const auto i = static_cast<size_t>(t), j = static_cast<size_t>(s);
          const double pairs = allowed_pairs(starts[i], starts[i + 1], starts[j], starts[j + 1]);
          sum += pairs * (rows[i][j].is_number() ? rows[i][j].get<double>() : std::nan(""));
          count += pairs;
        }
      row.push_back(writer.number(sum / count));
    }
    weights.push_back(std::move(row));
    const auto cell = static_cast<size_t>(groups.start(q));
    const json& token = map["tokens"][cell];
    labels.push_back(token.is_string() ? token.get<std::string>() : token.dump());
    first.push_back(starts[cell]);
  }
  if (std::ssize(first) < length) {
    int64_t widest = 1, single = 0;
    for (size_t g = 0; g < first.size(); ++g) {
      const int64_t end = g + 1 < first.size() ? first[g + 1].get<int64_t>() : length;
      const int64_t width = end - first[g].get<int64_t>();
      widest = std::max(widest, width);
      if (width == 1 && single == static_cast<int64_t>(g)) ++single;
    }
    writer.note(
        fmt::format("attention map of {}: {} tokens as {} x {} cells: the first {} tokens single, "
                    "the others in groups of {}; a cell is the mean weight of its pairs of query "
                    "and key",
                    arm, length, first.size(), first.size(), single, widest));
  }
  return {{"step", map["step"]}, {"layer", map["layer"]}, {"head", map["head"]}, {"start", first},
          {"length", length},    {"labels", labels},      {"weights", weights}};
}

}  // namespace

std::vector<size_t> thin_steps(const std::vector<int64_t>& steps, size_t count) {
  std::set<size_t> kept;
  const size_t n = steps.size();
  if (n <= count) {
    for (size_t i = 0; i < n; ++i) kept.insert(i);
    return {kept.begin(), kept.end()};
  }
  const size_t half = std::max<size_t>(1, count / 2);
  const double last = std::log2(static_cast<double>(steps.back()) + 1);
  for (size_t i = 0; i < half; ++i) {
    const double part = half == 1 ? 1 : static_cast<double>(i) / static_cast<double>(half - 1);
    kept.insert(static_cast<size_t>(std::lround(part * static_cast<double>(n - 1))));
    const auto wanted = static_cast<int64_t>(std::llround(std::exp2(part * last) - 1));
    const auto at = std::lower_bound(steps.begin(), steps.end(), wanted);
    kept.insert(std::min(n - 1, static_cast<size_t>(at - steps.begin())));
  }
  kept.insert(0);
  while (kept.size() > count) kept.erase(std::next(kept.begin()));
  return {kept.begin(), kept.end()};
}

PageData page_data(const ReportRun& run, const OnsetSettings& onset) {
  Writer writer;
  json arms = json::array();
  size_t maps = 0;
  for (const ReportArm& arm : run.arms) maps += arm.maps.size();
  const int64_t side = std::clamp<int64_t>(
      static_cast<int64_t>(
          std::sqrt(2.0 * map_budget / static_cast<double>(std::max<size_t>(1, maps)))),
      48, kMapSide);
  for (const ReportArm& arm : run.arms) {
    std::vector<int64_t> steps;
    for (const MeasuredStep& step : arm.measured) steps.push_back(step.step);
    const MeasuredStep& first = arm.measured.front();
    const size_t n = run.arms.size();
    size_t layer_cost = 0;
    for (const auto& [key, values] : first.by_layer) layer_cost += values.size();
    const auto layers =
        writer.choose(steps, layer_cost, layer_budget / n, arm.name, "layer curves");
    const auto heads = writer.choose(steps, cost(first, &MeasuredStep::by_head), head_budget / n,
                                     arm.name, "head values");
    const auto tokens = writer.choose(steps, cost(first, &MeasuredStep::by_token), token_budget / n,
                                      arm.name, "token curves");
    if (!arm.left_out.empty())
      writer.note(fmt::format("{}: what is measured at {}, which the model does not name.",
                              arm.name, join(arm.left_out, ", ")));
    const size_t length = arm.tokens.at("length").get<size_t>();
    if (arm.kept_tokens.size() < length)
      writer.note(
          fmt::format("token curves of {}: {} of {} tokens (the first 32 and about 12 an "
                      "octave)",
                      arm.name, arm.kept_tokens.size(), length));
    json entry = {{"name", arm.name},
                  {"length", length},
                  {"sink", arm.settings.at("sink_token")},
                  {"layers", arm.model.at("layers")},
                  {"training", loss_curve(arm.training, arm, writer)},
                  {"layer", by_layer(arm, layers, writer)},
                  {"head", by_layer_and(arm, &MeasuredStep::by_head, heads, writer)},
                  {"token", by_layer_and(arm, &MeasuredStep::by_token, tokens, writer)}};
    if (!arm.validation.step.empty()) entry["validation"] = loss_curve(arm.validation, arm, writer);
    entry["token"]["tokens"] = arm.kept_tokens;
    entry["maps"] = json::array();
    for (const json& map : arm.maps)
      entry["maps"].push_back(attention_map(map, side, arm.name, writer));
    arms.push_back(std::move(entry));
  }
  json data = {{"arms", std::move(arms)}, {"timeline", json(timeline_data(run, onset))}};
  if (const Dose dose = dose_of(run)) data["dose"] = {{"key", dose.key}, {"values", dose.values}};
  return {std::move(data), writer.notes()};
}

}  // namespace weir
