#include "lab/report/measure_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "lab/measure/record_keys.h"
#include "lab/measure/statistics.h"
#include "lab/report/report_summary.h"
#include "lab/report/terminal_table.h"
#include "support/text.h"

namespace weir {
namespace {

using nlohmann::json;

double number(const json& value) {
  if (value.is_number()) return value.get<double>();
  const double infinity = std::numeric_limits<double>::infinity();
  if (value == "Infinity") return infinity;
  return value == "-Infinity" ? -infinity : std::numeric_limits<double>::quiet_NaN();
}

std::vector<double> numbers_of(const json& values) {
  std::vector<double> result;
  for (const json& value : values) result.push_back(number(value));
  return result;
}

// Of a field that a record may leave out: NaN, none.
double number_of(const json& layer, const char* key) {
  return layer.contains(key) ? number(layer[key]) : kNaN;
}
std::vector<double> numbers_at(const json& layer, const char* key) {
  return layer.contains(key) ? numbers_of(layer[key]) : std::vector<double>{};
}

// The sink token's norm over the mean of the tokens that it is compared with.
double sink_ratio(const std::vector<double>& norms, size_t sink) {
  if (norms.empty()) return kNaN;
  std::vector<double> others;
  for (auto t = static_cast<size_t>(kOtherTokens.first);
       t <= static_cast<size_t>(kOtherTokens.last) && t < norms.size(); ++t)
    if (t != sink) others.push_back(norms[t]);
  return ratio(norms.at(sink), mean(others));
}

std::string largest_activation(const json& layer) {
  if (!layer.contains("massive_activations")) return "-";
  const json& massive = layer["massive_activations"];
  if (massive.empty()) return short_number(number(layer["resid_post_max_abs"]));
  return fmt::format("{} at token {}, feature {}", short_number(number(massive[0]["value"])),
                     massive[0]["token"].get<int64_t>(), massive[0]["feature"].get<int64_t>());
}

// What the record leaves out, and why.
std::string left_out_line(const json& record) {
  if (!record.contains("left_out")) return "";
  return fmt::format("left out, since the model does not name it: {}\n",
                     join(record["left_out"].get<std::vector<std::string>>(), ", "));
}

}  // namespace

LayerNumbers layer_numbers(const json& record) {
  LayerNumbers result;
  const auto sink = record["settings"]["sink_token"].get<size_t>();
  for (const json& layer : record["layers"]) {
    const std::vector<double> mass = numbers_at(layer, "sink_mass");
    result.sink_rate.push_back(number_of(layer, "sink_rate"));
    result.sink_mass.push_back(mass.empty() ? kNaN : mean(mass));
    result.sink_mass_max.push_back(mass.empty() ? kNaN : largest(mass));
    result.gradient_sink_ratio.push_back(number_of(layer, "gradient_sink_ratio"));
    result.norm_ratio.push_back(sink_ratio(numbers_at(layer["norm"], "resid_post"), sink));
    result.value_ratio.push_back(sink_ratio(numbers_at(layer["norm"], "value"), sink));
  }
  const json& summary = record["summary"];
  result.loss = number(record["loss"]);
  result.mean_sink_rate = number(summary["sink_rate"]);
  result.ratio_median = number(summary["gradient_sink_ratio_median"]);
  result.ratio_quartiles = numbers_of(summary["gradient_sink_ratio_quartiles"]);
  result.norm_ratio_max = number(summary["resid_post_norm_ratio_max"]);
  return result;
}

LayerTable layer_table(const json& record) {
  const LayerNumbers numbers = layer_numbers(record);
  LayerTable table{{"layer", "sink rate", "sink mass", "largest head", "R_GS", "norm ratio",
                    "value ratio", "largest activation"},
                   {}};
  for (size_t l = 0; l < numbers.sink_rate.size(); ++l)
    table.rows.push_back(
        {fmt::format("{}", l), fmt::format("{:.2f}", numbers.sink_rate[l]),
         short_number(numbers.sink_mass[l]), short_number(numbers.sink_mass_max[l]),
         short_number(numbers.gradient_sink_ratio[l]), short_number(numbers.norm_ratio[l]),
         short_number(numbers.value_ratio[l]), largest_activation(record["layers"][l])});
  return table;
}

std::string sink_rate_caveat(double threshold, double null_score, int64_t queries) {
  if (!(null_score > threshold)) return "";
  return fmt::format(
      "The sink rate says nothing here: over {} {} uniform attention itself has a sink score of "
      "{}, above the threshold of {}. Longer sequences lower it.",
      queries, queries == 1 ? "query" : "queries", short_number(null_score), shortest(threshold));
}

std::string measure_table(const std::string& text) {
  const json record = json::parse(text);
  const LayerTable table = layer_table(record);
  std::vector<std::vector<std::string>> rows = {table.header};
  rows.insert(rows.end(), table.rows.begin(), table.rows.end());
  std::string result = terminal_table(rows, {.last_left = true});
  const LayerNumbers all = layer_numbers(record);
  const json &first = record["layers"][0], &settings = record["settings"];
  const std::string caveat =
      sink_rate_caveat(number(settings["sink_threshold"]), number(first["sink_score_null"]),
                       settings["sink_window"].get<int64_t>());
  return result +
         fmt::format(
             "\nloss {:.4f} nats; sink rate {:.3f}; R_GS median {} (quartiles {} to {}); largest "
             "norm ratio {}\n"
             "token {} against tokens {}-{}; uniform attention would give a sink score of {} and a "
             "mass of {}\n{}",
             all.loss, all.mean_sink_rate, short_number(all.ratio_median),
             short_number(all.ratio_quartiles[0]), short_number(all.ratio_quartiles[1]),
             short_number(all.norm_ratio_max), record["settings"]["sink_token"].get<int64_t>(),
             kOtherTokens.first, kOtherTokens.last, short_number(number(first["sink_score_null"])),
             short_number(number(first["sink_mass_null"])), caveat.empty() ? "" : caveat + "\n") +
         left_out_line(record);
}

}  // namespace weir
