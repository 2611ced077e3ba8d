#pragma once
// A run's folder with plausible numbers: what `weir train` writes, without training.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace weir::test {

struct SampleSize {
  int arms = 2, layers = 1, heads = 1, length = 128, last_step = 500;
  bool dose =
      false;  ///< whether arms give sink_gradient.gain a number each, in pairs of equal ones
};

/// Numbers that follow a forming sink: `progress` runs from 0 to 1 over training.
class SampleRecord {
 public:
  using json = nlohmann::json;
  SampleRecord(const SampleSize& size, int arm, int step)
      : size_(size),
        arm_(arm),
        step_(step),
        progress_(1 / (1 + std::exp(-(std::log2(step + 1.0) - 6) * 1.6))) {}

  json record() const {
    json layers = json::array();
    for (int l = 0; l < size_.layers; ++l) layers.push_back(layer(l));
    return {{"format", "weir.measure/1"},
            {"step", step_},
            {"model",
             {{"name", "llama"},
              {"layers", size_.layers},
              {"d_model", 128},
              {"heads", size_.heads},
              {"kv_heads", size_.heads},
              {"d_head", 128 / size_.heads},
              {"d_ff", 320},
              {"vocabulary", 64},
              {"parameters", 205184}}},
            {"tokens", {{"batch", 32}, {"length", size_.length}}},
            {"settings",
             {{"sink_token", 0},
              {"sink_window", 64},
              {"sink_threshold", 0.3},
              {"gradient_window", 31},
              {"massive_absolute", 100},
              {"massive_ratio", 1000},
              {"v_scale", arm_ == 0 ? "none" : "full"},
              {"attention", "softmax"}}},
            {"loss", loss(step_)},
            {"layers", layers}};
  }

  double loss(int step) const {
    return 2.1 + 2.05 * std::exp(-step / 70.0) + 0.02 * wave(step, arm_) + 0.03 * arm_;
  }

 private:
  static double wave(int a, int b) { return std::sin(a * 12.9898 + b * 78.233); }

  json tokens(double sink, double others, int seed) const {
    json values = json::array();
    for (int t = 0; t < size_.length; ++t)
      values.push_back(t == 0 ? sink : others * (1 + 0.2 * wave(t, seed)) / (1 + 0.01 * t));
    return values;
  }

  json heads(double low, double high, int layer) const {
    json values = json::array();
    for (int h = 0; h < size_.heads; ++h) {
      const double part = size_.heads == 1 ? 1 : 0.5 + 0.5 * wave(h + 3, layer + 1);
      values.push_back(low + (high - low) * part * progress_);
    }
    return values;
  }

  json layer(int l) const {
    const double depth = size_.layers == 1 ? 1 : 0.4 + 0.6 * std::sin(3.0 * (l + 1) / size_.layers);
    const double p = progress_ * depth, damp = arm_ == 0 ? 1 : 1.0 / (1 + arm_);
    const double ratio = (2 + 60 * p * damp) * std::exp(0.6 * p * wave(step_, l));
    json norm, gradient;
    int seed = l;
    for (const char* key : {"resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"}) {
      ++seed;
      norm[key] = tokens(2 + 25 * p * damp + seed % 3, 2 + 2 * p, seed);
    }
    norm["value"] = tokens(2.4 - 1.9 * p, 2.4, ++seed);
    for (const char* key : {"attn_in", "k", "v", "attn_out", "mlp_in", "mlp_out", "resid_pre",
                            "resid_mid", "resid_post"})
      gradient[key] = tokens(1e-3 * ratio, 1e-3, ++seed);
    gradient["q"] = tokens(0, 4e-4, ++seed);
    if (arm_ > 0) {
      norm["value_scaled"] = tokens(0.6 - 0.58 * p, 0.6, ++seed);
      gradient["v_scaled"] = tokens(2e-3 * ratio, 1e-3, ++seed);
    }
    json record = {{"layer", l},
                   {"sink_score", heads(0.07, 0.8 * (0.5 + damp / 2), l)},
                   {"sink_rate", p > 0.4 ? 1 : 0},
                   {"sink_mass", heads(5, 90, l)},
                   {"sink_second_moment", heads(1, 60, l)},
                   {"attention_entropy", heads(3.4, 1.2, l)},
                   {"sink_score_null", 0.074},
                   {"sink_mass_null", 5.43},
                   {"sink_rate_null", 0},
                   {"norm", norm},
                   {"grad_norm", gradient},
                   {"gradient_sink_ratio", ratio},
                   {"resid_post_max_abs", 3 + 40 * p * damp},
                   {"resid_post_median_abs", 0.2},
                   {"resid_post_kurtosis", 1 + 100 * p * damp},
                   {"massive_activations", json::array()}};
    for (const char* branch : {"attn", "mlp"}) {
      record[std::string("bloat_") + branch] = tokens(1 + ratio, 1.1, ++seed);
      record[std::string("compress_") + branch] = tokens(0.5 / (1 + 20 * p), 0.5, ++seed);
      record[std::string("change_") + branch] = tokens(1.05, 1.0, ++seed);
    }
    return record;
  }

  SampleSize size_;
  int arm_, step_;
  double progress_;
};

inline void write_text(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
}

inline nlohmann::json sample_map(int length, int step) {
  nlohmann::json rows = nlohmann::json::array(), labels = nlohmann::json::array();
  for (int t = 0; t < length; ++t) {
    nlohmann::json row = nlohmann::json::array();
    const double sink = t == 0 ? 1 : 0.5 + 0.3 * std::sin(t * 1.7);
    for (int s = 0; s < length; ++s) row.push_back(s > t ? 0 : s == 0 ? sink : (1 - sink) / t);
    rows.push_back(row);
    labels.push_back(t % 7);
  }
  return {{"step", step}, {"layer", 0}, {"head", 0}, {"tokens", labels}, {"map", rows}};
}

inline void write_sample_run(const std::filesystem::path& folder, const SampleSize& size) {
  const char* names[] = {
      "baseline", "v-scale-full", "v-scale-learned", "v-scale-backward", "v-scale-fwd", "softmax-1",
      "wide",     "deep"};
  nlohmann::ordered_json arms = nlohmann::json::array();
  for (int a = 0; a < size.arms; ++a) {
    std::string losses, records;
    for (int step = 0; step <= size.last_step; ++step) {
      const SampleRecord sample(size, a, step);
      losses += nlohmann::json{{"step", step},
                               {"loss", sample.loss(step)},
                               {"lr", 1e-2},
                               {"grad_norm", 0.8},
                               {"tokens_per_second", 1e5}}
                    .dump() +
                "\n";
      const bool power = (step & (step - 1)) == 0 && step <= 512;
      if (power || step % 50 == 0 || step == size.last_step)
        records += sample.record().dump() + "\n";
    }
    write_text(folder / names[a] / "loss.jsonl", losses);
    write_text(folder / names[a] / "metrics.jsonl", records);
    write_text(folder / names[a] / "maps.json",
               nlohmann::json::array({sample_map(size.length, size.last_step)}).dump());
    nlohmann::ordered_json overrides = nlohmann::ordered_json::object();
    if (a > 0) overrides["model"]["v_scale"] = "full";
    if (size.dose && a > 0) overrides["sink_gradient.gain"] = std::to_string((a + 1) / 2 * 2);
    arms.push_back({{"name", names[a]}, {"folder", names[a]}, {"overrides", overrides}});
  }
  const nlohmann::ordered_json run = {
      {"arms", arms},
      {"command", "weir train task=bigram-backcopy steps=500 arms=baseline,v-scale-full"},
      {"versions", {{"weir", "0.1.0"}, {"llvm", "19.1.4"}}},
      {"target", "znver4, AVX-512, 2 cores"},
      {"seed", 1},
      {"started", "2026-03-01T12:00:00Z"},
      {"seconds", 84.2}};
  const nlohmann::ordered_json config = {
      {"task", "bigram-backcopy"},
      {"model",
       {{"name", "llama"}, {"layers", size.layers}, {"heads", size.heads}, {"d_model", 128}}},
      {"optimizer", {{"name", "adamw"}, {"beta", {0.9, 0.95}}, {"rate", 0.01}}},
      {"sink_gradient", {{"gain", 1.0}}},
      {"steps", size.last_step}};
  write_text(folder / "run.json", run.dump());
  write_text(folder / "config.json", config.dump());
}

}  // namespace weir::test
