#pragma once
// Folders of runs and sweeps whose measured numbers are given, without training.
#include <fmt/format.h>

#include <functional>

#include "lab/report/sample_run.h"

namespace weir::test {

/// The numbers of a measured step that comparisons are about; every layer and head has the same.
struct ComparedStep {
  double loss = 2, sink_score = 0.1, value_ratio = 1, gradient_ratio = 1, norm_ratio = 1;
};

struct ComparedArm {
  std::string name = "baseline";
  nlohmann::ordered_json overrides = nlohmann::ordered_json::object();
  std::function<ComparedStep(int64_t)> at = {};  ///< by step
};

inline const std::vector<int64_t>& compared_steps() {
  static const std::vector<int64_t> steps = {0, 1, 2, 4, 8, 16, 32, 64, 100};
  return steps;
}

/// One measured step as a record of one layer, one head and 8 tokens.
inline std::string compared_record(int64_t step, const ComparedStep& numbers) {
  constexpr int length = 8;
  const SampleSize size{.layers = 1, .heads = 1, .length = length, .last_step = 100};
  nlohmann::json record = SampleRecord(size, 0, static_cast<int>(step)).record();
  record["loss"] = numbers.loss;
  nlohmann::json& layer = record["layers"][0];
  layer["sink_score"] = {numbers.sink_score};
  if (std::isnan(numbers.gradient_ratio))
    layer["gradient_sink_ratio"] = "NaN";
  else
    layer["gradient_sink_ratio"] = numbers.gradient_ratio;
  nlohmann::json value(length, 2.0), stream(length, 4.0);
  value[0] = 2 * numbers.value_ratio;
  stream[0] = 4 * numbers.norm_ratio;
  layer["norm"]["value"] = value;
  layer["norm"]["resid_post"] = stream;
  layer["value_norm_by_head"] = nlohmann::json::array({value});
  return record.dump() + "\n";
}

/// A finished run of 100 steps, or one that has got to `last`.
inline void write_compared_run(const std::filesystem::path& folder, int64_t seed,
                               const std::vector<ComparedArm>& arms, int64_t last = 100,
                               nlohmann::ordered_json keys = nlohmann::ordered_json::object()) {
  nlohmann::ordered_json entries = nlohmann::ordered_json::array();
  for (const ComparedArm& arm : arms) {
    std::string lines, losses;
    for (int64_t step : compared_steps())
      if (step <= last) lines += compared_record(step, arm.at(step));
    for (int64_t step = 0; step <= last; ++step)
      losses += nlohmann::json{{"step", step}, {"loss", 2}}.dump() + "\n";
    write_text(folder / arm.name / "metrics.jsonl", lines);
    write_text(folder / arm.name / "loss.jsonl", losses);
    entries.push_back({{"name", arm.name}, {"folder", arm.name}, {"overrides", arm.overrides}});
  }
  nlohmann::ordered_json config = {{"out", folder.string()},
                                   {"seed", seed},
                                   {"steps", 100},
                                   {"data", {{"kind", "backcopy"}}},
                                   {"optimizer", {{"rate", 0.01}}}};
  if (keys.is_object()) config.update(keys, true);
  write_text(folder / "run.json", nlohmann::ordered_json{{"arms", entries}, {"seed", seed}}.dump());
  write_text(folder / "config.json", config.dump());
}

/// Arms with a sink from step 8, drain from 16, gradient sink from 4, norm growth from 32; `shift`
/// moves every number a little, as seeds do.
inline ComparedArm sinking_arm(double shift) {
  return {.name = "baseline", .at = [shift](int64_t step) {
            return ComparedStep{.loss = 3 - 0.01 * static_cast<double>(step) + shift,
                                .sink_score = step >= 8 ? 0.6 + shift : 0.1,
                                .value_ratio = step >= 16 ? 0.2 : 1,
                                .gradient_ratio = step >= 4 ? 20 + 10 * shift : 1,
                                .norm_ratio = step >= 32 ? 6.0 : 1.0};
          }};
}

/// The same with a later gradient sink (step 16) and no norm growth, at a slightly lower loss.
inline ComparedArm regulated_arm(double shift, double gain) {
  return {.name = "v-scale",
          .overrides = {{"v_scale.variant", "full"}},
          .at = [shift, gain](int64_t step) {
            ComparedStep numbers = sinking_arm(shift).at(step);
            numbers.loss -= gain;
            numbers.sink_score += step >= 8 ? gain : 0;
            numbers.gradient_ratio = step >= 16 ? 8 : 1;
            numbers.norm_ratio = 1.5;
            return numbers;
          }};
}

/// A sweep of arms baseline and v-scale over `seeds` seeds and two grid points of a key.
inline void write_sample_sweep(const std::filesystem::path& folder, int64_t seeds,
                               bool grid = true) {
  nlohmann::ordered_json entries = nlohmann::ordered_json::array();
  std::vector<double> rates = {0.01};
  if (grid) rates.push_back(0.001);
  for (double rate : rates)
    for (const bool scaled : {false, true})
      for (int64_t seed = 1; seed <= seeds; ++seed) {
        const double shift = 0.01 * static_cast<double>(seed % 4) + (rate < 0.01 ? 0.2 : 0);
        ComparedArm arm =
            scaled ? regulated_arm(shift, 0.02 * static_cast<double>(seed)) : sinking_arm(shift);
        const std::string run = fmt::format("{:08x}", entries.size() + 100);
        arm.overrides = nlohmann::ordered_json::object();
        arm.name = "baseline";  // what a run without arms calls its only one
        write_compared_run(folder / "runs" / run, seed, {arm}, 100,
                           {{"optimizer", {{"rate", rate}}},
                            {"v_scale", {{"variant", scaled ? "full" : "none"}}}});
        nlohmann::ordered_json point = nlohmann::ordered_json::object();
        if (grid) point["optimizer.rate"] = rate;
        entries.push_back({{"index", entries.size()},
                           {"arm", scaled ? "v-scale" : "baseline"},
                           {"seed", seed},
                           {"grid", point},
                           {"run", run}});
      }
  const nlohmann::ordered_json sweep = {{"schema", "weir.sweep/1"},
                                        {"base", nlohmann::ordered_json::object()},
                                        {"arms",
                                         {{"baseline", nlohmann::ordered_json::object()},
                                          {"v-scale", {{"v_scale.variant", "full"}}}}},
                                        {"entries", entries}};
  write_text(folder / "sweep.json", sweep.dump());
}

}  // namespace weir::test
