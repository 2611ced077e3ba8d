#pragma once
// A record `weir.dial/1` made up for tests of its table and report.
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace weir::test {

/// Both with g frozen and recomputed where the dial has both; one number is NaN.
inline nlohmann::json sample_dial(const std::string& dial, int64_t layers, int64_t heads) {
  using nlohmann::json;
  const bool attention = dial != "norm", mask = dial == "mask";
  json values = json::array();
  if (mask)
    values = {"sink", "middle", "last-four", "random-1", "random-2"};
  else
    for (int v = 0; v < 9; ++v) values.push_back(dial == "mass" ? v - 4.0 : std::exp2(v - 4));
  json numbers = json::array();
  for (int64_t h = 0; h < heads; ++h) numbers.push_back(h);
  json record = {
      {"format", "weir.dial/1"},
      {"provenance", {{"command", "weir dial"}, {"time", "now"}}},
      {"model", {{"name", "sample"}, {"layers", layers}, {"heads", heads}, {"parameters", 1000}}},
      {"tokens", {{"batch", 2}, {"length", 64}}},
      {"settings",
       {{"dial", dial},
        {"sink_token", 0},
        {"heads", numbers},
        {"values", values},
        {"confidence", 0.95},
        {"v_scale", "none"},
        {"attention", "softmax"},
        {"arithmetic", "f32"}}},
      {"loss", 3.5}};
  if (dial == "mass") record["settings"]["form"] = "logit";
  if (dial == "norm") record["settings"]["form"] = "branch", record["settings"]["branch"] = "attn";
  if (dial == "norm") record["settings"]["fit_above_eps_times"] = 1000;
  const auto fit = [](double exponent) {
    return json{{"exponent", exponent}, {"low", exponent - 0.1}, {"high", exponent + 0.1},
                {"factor_log", -9.0},   {"r_squared", 0.99},     {"points", 9}};
  };
  for (int64_t l = 0; l < layers; ++l) {
    json layer = {{"layer", 2 * l}};
    for (const char* upstream : {"frozen", "recomputed"}) {
      const bool frozen = std::string(upstream) == "frozen";
      if (frozen && (mask || dial == "value")) continue;
      json sweep = json::object();
      for (size_t v = 0; v < values.size(); ++v) {
        const double x = static_cast<double>(v), up = std::exp2(x - 4);
        if (!frozen) sweep["loss"].push_back(3.5 + 0.01 * std::pow(x - 4, 2));
        if (!attention) {
          sweep["norm"].push_back(up);
          sweep["compress"].push_back(0.1 / up);
          sweep["mean_square"].push_back(up * up / 64);
          continue;
        }
        json row = json::array();
        for (int64_t h = 0; h < heads; ++h) row.push_back(up * (1 + 0.1 * static_cast<double>(h)));
        sweep["mass"].push_back(row);
        if (mask) continue;
        for (const char* key : {"second_moment", "energy", "mean_curve", "noise_curve"})
          sweep[key].push_back(row);
        for (const char* key : {"sum", "mass", "moment"})
          sweep["tightness"][key].push_back(json(std::vector<double>(heads, 0.5)));
      }
      if (!attention) {
        layer["eps"] = 1e-5;
        sweep["fit"] = fit(-1);
      } else if (dial == "mass" || dial == "position") {
        sweep["fit"] = fit(1.7 - 0.1 * static_cast<double>(l));
        for (int64_t h = 0; h < heads; ++h)
          sweep["head_fits"].push_back(fit(1.2 + 0.1 * static_cast<double>(h)));
        sweep["energy"][1][0] = "NaN";
      }
      layer[upstream] = sweep;
    }
    record["layers"].push_back(layer);
  }
  record["checks"] = json::array();
  if (!mask)
    record["checks"].push_back({{"name", "|dv| <= sum a |g|"},
                                {"holds", true},
                                {"worst", 0.93},
                                {"limit", 1.00001},
                                {"where", "layer 0, head 1"}});
  return record;
}

}  // namespace weir::test
