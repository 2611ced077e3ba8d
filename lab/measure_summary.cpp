#include "lab/measure_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lab/report_summary.h"
#include "lab/statistics.h"

namespace weir {
namespace {

using nlohmann::json;

double number(const json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::vector<double> numbers(const json& values) {
  std::vector<double> result;
  for (const json& value : values) result.push_back(number(value));
  return result;
}

// The sink token's norm over the mean of tokens 1..15.
double sink_ratio(const std::vector<double>& norms, size_t sink) {
  std::vector<double> others;
  for (size_t t = 1; t <= 15 && t < norms.size(); ++t)
    if (t != sink) others.push_back(norms[t]);
  return ratio(norms.at(sink), mean(others));
}

std::string largest_activation(const json& layer) {
  const json& massive = layer["massive_activations"];
  if (massive.empty()) return short_number(number(layer["resid_post_max_abs"]));
  return fmt::format("{} at token {}, feature {}", short_number(number(massive[0]["value"])),
                     massive[0]["token"].get<int64_t>(), massive[0]["feature"].get<int64_t>());
}

}  // namespace

std::string measure_table(const std::string& text) {
  const json record = json::parse(text);
  const auto sink = record["settings"]["sink_token"].get<size_t>();
  std::string table = fmt::format("{:>5}  {:>9}  {:>9}  {:>12}  {:>6}  {:>10}  {:>11}  {}\n",
                                  "layer", "sink rate", "sink mass", "largest head", "R_GS",
                                  "norm ratio", "value ratio", "largest activation");
  for (const json& layer : record["layers"]) {
    const std::vector<double> mass = numbers(layer["sink_mass"]);
    table += fmt::format(
        "{:>5}  {:>9.2f}  {:>9}  {:>12}  {:>6}  {:>10}  {:>11}  {}\n",
        layer["layer"].get<int64_t>(), number(layer["sink_rate"]), short_number(mean(mass)),
        short_number(largest(mass)), short_number(number(layer["gradient_sink_ratio"])),
        short_number(sink_ratio(numbers(layer["norm"]["resid_post"]), sink)),
        short_number(sink_ratio(numbers(layer["norm"]["value"]), sink)), largest_activation(layer));
  }
  const json& first = record["layers"][0];
  const json& summary = record["summary"];
  const std::vector<double> quartiles = numbers(summary["gradient_sink_ratio_quartiles"]);
  return table +
         fmt::format(
             "\nloss {:.4f} nats; sink rate {:.3f}; R_GS median {} (quartiles {} to {}); largest "
             "norm ratio {}\n"
             "token {} against tokens 1-15; uniform attention would give a sink score of {} and a "
             "mass of {}\n",
             number(record["loss"]), number(summary["sink_rate"]),
             short_number(number(summary["gradient_sink_ratio_median"])),
             short_number(quartiles[0]), short_number(quartiles[1]),
             short_number(number(summary["resid_post_norm_ratio_max"])), sink,
             short_number(number(first["sink_score_null"])),
             short_number(number(first["sink_mass_null"])));
}

}  // namespace weir
