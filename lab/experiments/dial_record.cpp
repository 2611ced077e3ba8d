#include <nlohmann/json.hpp>

#include "lab/experiments/dial.h"
#include "lab/measure/nonfinite.h"
#include "lab/measure/rewrite_json.h"
#include "lab/measure/token_input.h"
#include "support/error.h"

namespace weir {

namespace {

using Json = nlohmann::ordered_json;

Json numbers(const std::vector<double>& values) {
  Json array = Json::array();
  for (double value : values) array.push_back(json_number(value));
  return array;
}

Json fit_json(const LineFit& fit) {
  return {{"exponent", json_number(fit.slope)},      {"low", json_number(fit.low)},
          {"high", json_number(fit.high)},           {"factor_log", json_number(fit.intercept)},
          {"r_squared", json_number(fit.r_squared)}, {"points", fit.points}};
}

// A member of all points of a sweep, [settings][heads].
Json by_setting(const DialSweep& sweep, std::vector<double> AttentionPoint::* member) {
  Json array = Json::array();
  for (const AttentionPoint& point : sweep.attention) array.push_back(numbers(point.*member));
  return array;
}

Json by_setting(const DialSweep& sweep, double NormPoint::* member) {
  Json array = Json::array();
  for (const NormPoint& point : sweep.norm) array.push_back(json_number(point.*member));
  return array;
}

void add_attention(Json& json, const DialSweep& sweep, const DialTask& task) {
  json["mass"] = by_setting(sweep, &AttentionPoint::mass);
  if (task.dial == Dial::mask) return;
  json["second_moment"] = by_setting(sweep, &AttentionPoint::second_moment);
  json["energy"] = by_setting(sweep, &AttentionPoint::energy);
  json["mean_curve"] = by_setting(sweep, &AttentionPoint::mean_curve);
  json["noise_curve"] = by_setting(sweep, &AttentionPoint::noise_curve);
  json["tightness"] = {{"sum", by_setting(sweep, &AttentionPoint::by_sum)},
                       {"mass", by_setting(sweep, &AttentionPoint::by_mass)},
                       {"moment", by_setting(sweep, &AttentionPoint::by_moment)}};
  if (task.dial == Dial::value) return;  // changes no weight
  json["fit"] = fit_json(mass_fit(sweep, std::nullopt, task.confidence));
  Json heads = Json::array();
  for (size_t h = 0; h < task.heads.size(); ++h)
    heads.push_back(fit_json(mass_fit(sweep, h, task.confidence)));
  json["head_fits"] = heads;
}

void add_norm(Json& json, const DialSweep& sweep, const DialTask& task, double eps) {
  json["norm"] = by_setting(sweep, &NormPoint::norm);
  json["compress"] = by_setting(sweep, &NormPoint::compress);
  json["mean_square"] = by_setting(sweep, &NormPoint::mean_square);
  json["fit"] = fit_json(norm_fit(sweep, eps, task.confidence));
}

Json layer_json(const LayerDial& layer, const DialTask& task) {
  Json json = {{"layer", layer.layer}};
  if (task.dial == Dial::norm) json["eps"] = layer.eps;
  for (const DialSweep& sweep : layer.sweeps) {
    Json one = Json::object();
    if (!sweep.loss.empty()) one["loss"] = numbers(sweep.loss);
    if (task.dial == Dial::norm)
      add_norm(one, sweep, task, layer.eps);
    else
      add_attention(one, sweep, task);
    json[upstream_name(sweep.upstream)] = std::move(one);
  }
  return json;
}

Json settings_json(const DialTask& task, const DialResult& result) {
  Json json = {{"dial", dial_name(task.dial)}};
  if (!forms_of(task.dial).empty()) json["form"] = form_name(task.form);
  if (task.dial == Dial::norm) json["branch"] = branch_name(task.branch);
  json["sink_token"] = task.sink_token;
  json["heads"] = result.heads;
  Json names = Json::array(), keys = Json::array(), values = Json::array();
  for (const DialValue& value : task.values) {
    names.push_back(value.name);
    values.push_back(value.number);
    keys.push_back(value.keys);
  }
  if (task.dial == Dial::mask) {
    json["values"] = names;
    json["keys"] = keys;
    json["seed"] = task.seed;
  } else {
    json["values"] = values;
  }
  json["confidence"] = task.confidence;
  if (task.dial == Dial::norm) json["fit_above_eps_times"] = kEpsShare;
  state_all_rewrites(task.options.rewrites, json);
  json["arithmetic"] = task.run.interpret ? "f64" : "f32";
  return json;
}

}  // namespace

std::string dial_record(const MeasuredModel& sizes, const TokenBatch& batch, const DialTask& task,
                        const DialResult& result) {
  Json record = {{"format", "weir.dial/1"}};
  if (!task.provenance.empty()) record["provenance"] = Json::parse(task.provenance);
  record["model"] = {
      {"name", sizes.name},   {"layers", sizes.layers},         {"d_model", sizes.d_model},
      {"heads", sizes.heads}, {"kv_heads", sizes.kv_heads},     {"d_head", sizes.d_head},
      {"d_ff", sizes.d_ff},   {"vocabulary", sizes.vocabulary}, {"parameters", sizes.parameters}};
  record["tokens"] = {{"batch", batch.batch}, {"length", batch.length}};
  if (batch.around) record["tokens"].update(Json::parse(tokens_json(*batch.around)));
  record["settings"] = settings_json(task, result);
  record["loss"] = json_number(result.loss);
  Json layers = Json::array(), checks = Json::array();
  for (const LayerDial& layer : result.layers) layers.push_back(layer_json(layer, task));
  for (const DialCheck& check : result.checks)
    checks.push_back({{"name", check.name},
                      {"holds", check.holds},
                      {"worst", json_number(check.worst)},
                      {"limit", check.limit},
                      {"where", check.where}});
  record["layers"] = std::move(layers);
  record["checks"] = std::move(checks);
  return record.dump();
}

}  // namespace weir
