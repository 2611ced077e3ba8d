#pragma once
// Records `weir.specialize/1` of the shape that lab/specialize writes, with numbers that are easy
// to find again.
#include <nlohmann/json.hpp>
#include <string>

namespace weir::test {

inline nlohmann::json number_at(double value, double error) {
  return {{"value", value}, {"error", error}};
}

/// Two heads and directions, three times, `seeds` seeds; the second dimension deviates half as
/// much.
inline nlohmann::json sample_dynamics(int64_t seeds) {
  using nlohmann::json;
  json run;
  run["bayes"] = number_at(0.4, 1e-3);
  run["times"] = {0, 5, 10};
  for (int64_t dimension : {100, 400, 1600}) {
    json one = {{"dimension", dimension}, {"steps", 10 * dimension}, {"time", {0, 5, 10}}};
    for (int t = 0; t < 3; ++t) {
      json m = json::array(), r = json::array(), b = json::array(), loss = json::array();
      for (int64_t s = 0; s < seeds; ++s) {
        m.push_back({{0.5 * t, 0.1}, {-0.2, 0.3 * t}});
        r.push_back({0.1 + t, 0.2 + t});
        b.push_back({0.1, 0.2});
        loss.push_back(t == 0 ? json() : json(0.6 - 0.05 * t));
      }
      one["m"].push_back(m);
      one["r_diagonal"].push_back(r);
      one["b"].push_back(b);
      one["loss"].push_back(loss);
    }
    json learnt = json::array();
    for (int64_t s = 0; s < seeds; ++s) learnt.push_back({5, s == 0 ? json() : json(10)});
    one["order"] = {{"learnt_at", learnt},
                    {"moves", std::vector<int64_t>(static_cast<size_t>(seeds), 1)},
                    {"complete", seeds - 1},
                    {"in_order", seeds - 1}};
    one["deviation"] = {0, 0.1, 2.0 / std::sqrt(static_cast<double>(dimension))};
    one["gradient_deviation"] = {0, 0.1, 0.25};
    run["dimensions"].push_back(one);
  }
  for (const char* name : {"flow", "gradient_flow"})
    for (int t = 0; t < 3; ++t) {
      run[name]["m"].push_back({{0.5 * t, 0.1}, {-0.2, 0.3 * t}});
      run[name]["r"].push_back({{0.1 + t, 0}, {0, 0.2 + t}});
      run[name]["b"].push_back({0.1, 0.2});
      run[name]["loss"].push_back(0.6 - 0.05 * t);
    }
  run["deviation_fit"] = {{"points", 3}, {"exponent", -0.5}, {"low", -0.52}, {"high", -0.48}};
  run["gradient_deviation_fit"] = {{"points", 3}, {"exponent", 0}, {"low", -0.1}, {"high", 0.1}};
  for (int64_t s = 0; s < seeds; ++s) run["excess"].push_back(number_at(0.1, 1e-3));
  return run;
}

inline nlohmann::json sample_risk() {
  nlohmann::json risk;
  for (double factor : {1, 2, 3}) {
    risk["factor"].push_back(factor);
    risk["bayes"].push_back(number_at(0.6 / factor, 1e-3));
    risk["risk"].push_back(number_at(0.7 / factor, 1e-3));
    risk["excess"].push_back(number_at(factor == 2 ? 0 : 0.1 / factor, 1e-4));
    risk["outside_curvature"].push_back(0.01);
    risk["at"].push_back({{"m", {{1, 0}}}, {"r", {{1}}}, {"b", {0}}});
  }
  return risk;
}

inline nlohmann::json sample_pruning(int64_t seeds) {
  nlohmann::json pruning = {
      {"bayes", number_at(0.3, 1e-3)}, {"directions", 1}, {"support", 2}, {"curves", {}}};
  for (int64_t s = 0; s < seeds; ++s)
    pruning["curves"].push_back({{"removed", {1, 0, 2}},
                                 {"risk", {0.31, 0.311 + 0.01 * static_cast<double>(s), 0.4, 0.6}},
                                 {"error", 1e-3},
                                 {"removable", s == 0 ? 1 : 0}});
  return pruning;
}

/// dynamics, risk or pruning of two laws and two activations.
inline nlohmann::json sample_specialize(const std::string& experiment, int64_t seeds = 3) {
  using nlohmann::json;
  json record = {{"format", "weir.specialize/1"},
                 {"provenance", {{"command", "weir specialize"}, {"target", "host"}}}};
  record["settings"] = {{"experiment", experiment},
                        {"name", "A sample & more"},
                        {"seeds", seeds},
                        {"first_seed", 1},
                        {"tokens", 3},
                        {"removal", 0.01},
                        {"learnt", 0.5},
                        {"strengths", "2,1.5"}};
  for (const char* law : {"flipped", "one-sided"})
    for (const char* activation : {"softmax", "bayes-softmax"}) {
      json one = {{"law", law}, {"activation", activation}, {"heads", 2}};
      if (experiment == "dynamics") one["dynamics"] = sample_dynamics(seeds);
      if (experiment == "risk") one["risk"] = sample_risk();
      if (experiment == "pruning") {
        one["heads"] = 4;
        one["pruning"] = sample_pruning(seeds);
      }
      record["cases"].push_back(one);
    }
  return record;
}

}  // namespace weir::test
