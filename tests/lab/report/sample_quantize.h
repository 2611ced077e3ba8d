#pragma once
// A record `weir.quantize/1` made up for tests of its table and report.
#include <nlohmann/json.hpp>

namespace weir::test {

/// Two arms that quantise activations, the second with an annihilated tensor, and one of weights.
inline nlohmann::json sample_quantize(int64_t layers, int64_t corpora = 2) {
  using nlohmann::json;
  const auto estimate = [](double value) {
    return json{{"value", value}, {"low", value - 0.1}, {"high", value + 0.1}};
  };
  json record = {{"format", "weir.quantize/1"},
                 {"provenance", {{"command", "weir quantize"}, {"time", "now"}}},
                 {"model", {{"name", "sample"}, {"layers", layers}}},
                 {"tokens", {{"batch", 32}, {"length", 256}}},
                 {"settings",
                  {{"sink_token", 0},
                   {"draws", 5},
                   {"draw_tokens", 2048},
                   {"smooth_alpha", 0.5},
                   {"aware_alpha", 0.5},
                   {"confidence", 0.95},
                   {"resamples", 2000},
                   {"seed", 1},
                   {"rows", 32},
                   {"destroyed_above", 10},
                   {"annihilated_above", 0.9},
                   {"v_scale", "none"},
                   {"attention", "softmax"},
                   {"arithmetic", "f32"}}},
                 {"corpora", json::array()},
                 {"sites", json::array()},
                 {"weights", json::array()},
                 {"arms", json::array()},
                 {"ranking", {"static", "per-token"}}};
  for (int64_t c = 0; c < corpora; ++c)
    record["corpora"].push_back(
        {{"name", c == 0 ? "wiki.txt" : "book.txt"}, {"loss", 3.0}, {"perplexity", 20.0}});
  for (int64_t layer = 0; layer < layers; ++layer)
    for (const char* part : {"q_proj, k_proj, v_proj", "down_proj"}) {
      record["sites"].push_back(
          {{"layer", layer},
           {"part", part},
           {"features", 16},
           {"mlp_down", std::string(part) == "down_proj"},
           {"dispersion", std::vector<double>(static_cast<size_t>(corpora), 3.0 + 40 * layer)}});
    }
  const auto arm = [&](const char* name, const char* activations, double damage, double ratio) {
    json of = {{"name", name},
               {"meaning", "a < b"},
               {"activations", activations},
               {"corpora", json::array()},
               {"annihilated", json::array()}};
    for (int64_t c = 0; c < corpora; ++c) {
      json outcome = {{"loss", 3 + damage},
                      {"perplexity", 20 * ratio},
                      {"loss_difference", estimate(damage)},
                      {"difference", estimate(20 * ratio - 20)},
                      {"ratio", ratio},
                      {"destroyed", ratio > 10},
                      {"sequence_loss", {1, 2}}};
      if (std::string(activations) != "none") outcome["sink_damage"] = estimate(0.9 * damage);
      of["corpora"].push_back(outcome);
    }
    for (const char* key : {"error", "median_error", "underflow"})
      for (size_t i = 0; i < record["sites"].size(); ++i)
        of["sites"][key].push_back(std::string(activations) == "none" ? json(nullptr)
                                                                      : json(0.01 + 0.1 * damage));
    of["weights"] = json::object();
    return of;
  };
  record["arms"].push_back(arm("weights-8", "none", 0.01, 1.01));
  record["arms"].push_back(arm("per-token", "token", 0.02, 1.02));
  json broken = arm("static", "static", 2.5, 12);
  broken["annihilated"].push_back({{"layer", 0}, {"part", "down_proj"}});
  broken["sites"]["underflow"][1] = 0.95;
  broken["sites"]["median_error"][0] = "NaN";
  record["arms"].push_back(broken);
  return record;
}

/// The same of held-out data of a run, with what is recalled.
inline nlohmann::json sample_recalled(int64_t layers) {
  using nlohmann::json;
  json record = sample_quantize(layers, 1);
  record["corpora"][0].update(
      {{"name", "held-out data of the run"}, {"recalled", 0.98}, {"sequence_targets", {6, 6}}});
  double lost = 0;
  for (json& arm : record["arms"]) {
    json& outcome = arm["corpora"][0];
    lost += 0.1;
    outcome["recalled"] = 0.98 - lost;
    outcome["recalled_difference"] = {{"value", -lost}, {"low", -lost - 0.1}, {"high", 0.1 - lost}};
    outcome["sequence_recalled"] = {3, 4};
    if (outcome.contains("sink_damage")) outcome["recalled_sink_exact"] = 0.9;
  }
  return record;
}

}  // namespace weir::test
