#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "lab/experiments/quantize.h"
#include "lab/measure/nonfinite.h"
#include "lab/measure/token_input.h"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;

Json number_array(const std::vector<double>& values) {
  Json array = Json::array();
  for (double value : values) array.push_back(json_number(value));
  return array;
}

Json estimate_json(const BootstrapEstimate& estimate) {
  return {{"value", json_number(estimate.value)},
          {"low", json_number(estimate.low)},
          {"high", json_number(estimate.high)}};
}

Json quantize_settings(const QuantizeTask& task, const TokenBatch& calibration, int64_t rows) {
  const Rewrites& rewrites = task.options.rewrites;
  return {{"sink_token", task.sink_token},
          {"draws", task.draws},
          {"draw_tokens", calibration.batch / task.draws * calibration.length},
          {"smooth_alpha", task.smooth_alpha},
          {"aware_alpha", task.aware_alpha},
          {"confidence", task.confidence},
          {"resamples", task.resamples},
          {"seed", task.seed},
          {"rows", rows},
          {"destroyed_above", kDestroyedAbove},
          {"annihilated_above", kAnnihilatedAbove},
          {"v_scale", v_scale_variant_name(rewrites.v_scale.variant)},
          {"attention", normalizer_name(rewrites.attention)},
          {"arithmetic", task.run.interpret ? "f64" : "f32"}};
}

Json corpus_json(const QuantizeCorpus& corpus, const SequenceLosses& reference, bool recalled) {
  Json json = {{"name", corpus.name}};
  if (!corpus.provenance.empty()) {
    const Json provenance = Json::parse(corpus.provenance);
    json["input"] = provenance.at("input");
    json["tokens"] = provenance.at("tokens");
  }
  json["loss"] = json_number(reference.loss());
  json["perplexity"] = json_number(std::exp(reference.loss()));
  json["sequence_loss"] = number_array(reference.nats);
  json["sequence_targets"] = number_array(reference.targets);
  if (recalled) {
    json["recalled"] = json_number(reference.share_recalled());
    json["sequence_recalled"] = number_array(reference.recalled);
  }
  return json;
}

Json quantized_site(const QuantizedSite& site, const SiteRange& range) {
  return {{"layer", site.layer},
          {"part", site.part},
          {"features", site.features},
          {"mlp_down", site.mlp_down},
          {"dispersion", number_array(range.dispersion)},
          {"calibration",
           {{"max", json_number(range.calibrated)},
            {"max_without_sink", json_number(range.calibrated_without_sink)},
            {"draws", number_array(range.draws)}}}};
}

Json weight_json(const QuantizedWeight& weight) {
  return {{"name", weight.name},       {"layer", weight.layer},   {"part", weight.part},
          {"outputs", weight.outputs}, {"inputs", weight.inputs}, {"site", weight.site}};
}

Json outcome_json(const QuantizeOutcome& outcome) {
  Json json = {{"loss", json_number(outcome.losses.loss())},
               {"perplexity", json_number(std::exp(outcome.losses.loss()))},
               {"loss_difference", estimate_json(outcome.loss_difference)},
               {"difference", estimate_json(outcome.difference)},
               {"ratio", json_number(outcome.ratio)},
               {"destroyed", outcome.destroyed()}};
  if (outcome.sink_damage && outcome.sink_exact) {
    json["sink_damage"] = estimate_json(*outcome.sink_damage);
    json["loss_sink_exact"] = json_number(outcome.sink_exact->loss());
  }
  if (outcome.recalled_difference) {
    json["recalled"] = json_number(outcome.losses.share_recalled());
    json["recalled_difference"] = estimate_json(*outcome.recalled_difference);
    if (outcome.sink_exact)
      json["recalled_sink_exact"] = json_number(outcome.sink_exact->share_recalled());
    json["sequence_recalled"] = number_array(outcome.losses.recalled);
  }
  json["sequence_loss"] = number_array(outcome.losses.nats);
  if (outcome.sink_exact) json["sequence_loss_sink_exact"] = number_array(outcome.sink_exact->nats);
  return json;
}

void add_error(Json& json, const RoundingError& error) {
  json["error"].push_back(json_number(error.whole));
  json["median_error"].push_back(json_number(error.median_row));
  json["underflow"].push_back(json_number(error.underflow));
}

Json no_errors() {
  return {{"error", Json::array()}, {"median_error", Json::array()}, {"underflow", Json::array()}};
}

Json arm_json(const QuantizeArm& arm, const ArmResult& result, const QuantizedParts& parts) {
  Json json = {{"name", arm.name},
               {"meaning", arm.meaning},
               {"bits", arm.bits},
               {"group", arm.group},
               {"activations", activations_name(arm.activations)},
               {"down_only", arm.down_only},
               {"smoothing", smoothing_name(arm.smoothing)}};
  Json corpora = Json::array(), sites = no_errors(), weights = no_errors(),
       annihilated = Json::array();
  for (const QuantizeOutcome& outcome : result.corpora) corpora.push_back(outcome_json(outcome));
  for (size_t i = 0; i < result.sites.size(); ++i) {
    const std::optional<RoundingError>& error = result.sites[i];
    if (!error) {
      for (const char* key : {"error", "median_error", "underflow"}) sites[key].push_back(nullptr);
      continue;
    }
    add_error(sites, *error);
    if (error->underflow > kAnnihilatedAbove)
      annihilated.push_back({{"layer", parts.sites[i].layer}, {"part", parts.sites[i].part}});
  }
  for (const RoundingError& error : result.weights) add_error(weights, error);
  json["corpora"] = std::move(corpora);
  json["annihilated"] = std::move(annihilated);
  json["sites"] = std::move(sites);
  json["weights"] = std::move(weights);
  return json;
}

// Arms that quantise activations, the one whose sink damage on the first corpus is largest first;
// NaN last.
Json ranking_json(const QuantizeTask& task, const QuantizeResult& result) {
  std::vector<std::pair<double, size_t>> damage;
  for (size_t a = 0; a < result.arms.size(); ++a)
    if (const auto& found = result.arms[a].corpora.front().sink_damage)
      damage.emplace_back(std::isnan(found->value) ? HUGE_VAL : -found->value, a);
  std::sort(damage.begin(), damage.end());
  Json names = Json::array();
  for (const auto& [value, arm] : damage) names.push_back(task.arms[arm].name);
  return names;
}

}  // namespace

std::string quantize_record(const MeasuredModel& sizes, const std::vector<QuantizeCorpus>& corpora,
                            const TokenBatch& calibration, const QuantizeTask& task,
                            const QuantizeResult& result, int64_t rows) {
  const TokenBatch& batch = corpora.front().batch;
  Json record = {{"format", "weir.quantize/1"}};
  if (!task.provenance.empty()) record["provenance"] = Json::parse(task.provenance);
  record["model"] = {
      {"name", sizes.name},   {"layers", sizes.layers},         {"d_model", sizes.d_model},
      {"heads", sizes.heads}, {"kv_heads", sizes.kv_heads},     {"d_head", sizes.d_head},
      {"d_ff", sizes.d_ff},   {"vocabulary", sizes.vocabulary}, {"parameters", sizes.parameters}};
  record["tokens"] = {{"batch", batch.batch}, {"length", batch.length}};
  if (batch.around) record["tokens"].update(Json::parse(tokens_json(*batch.around)));
  record["settings"] = quantize_settings(task, calibration, rows);
  Json texts = Json::array(), sites = Json::array(), weights = Json::array(), arms = Json::array();
  for (size_t c = 0; c < corpora.size(); ++c)
    texts.push_back(corpus_json(corpora[c], result.reference[c], task.recalled));
  for (size_t i = 0; i < result.parts.sites.size(); ++i)
    sites.push_back(quantized_site(result.parts.sites[i], result.ranges[i]));
  for (const QuantizedWeight& weight : result.parts.weights) weights.push_back(weight_json(weight));
  for (size_t a = 0; a < result.arms.size(); ++a)
    arms.push_back(arm_json(task.arms[a], result.arms[a], result.parts));
  record["corpora"] = std::move(texts);
  record["sites"] = std::move(sites);
  record["weights"] = std::move(weights);
  record["arms"] = std::move(arms);
  record["ranking"] = ranking_json(task, result);
  return record.dump();
}

}  // namespace weir
