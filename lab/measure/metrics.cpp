#include "lab/measure/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "lab/measure/metric_probes.h"
#include "lab/measure/nonfinite.h"
#include "lab/measure/record_keys.h"
#include "lab/measure/rewrite_json.h"
#include "lab/measure/statistics.h"
#include "lab/measure/token_input.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;
using Numbers = std::vector<double>;

// A token is an outlier whose largest |x| is above this times the median of the tokens'
// (PrefixQuant, arXiv 2410.05265); at most so many are listed.
constexpr double kOutlierTokenRatio = 64;
constexpr size_t kMostOutlierTokens = 16;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Json numbers(const Numbers& values) {
  Json array = Json::array();
  for (double value : values) array.push_back(json_number(value));
  return array;
}

Json settings_json(const MetricSettings& cut, const MeasuredModel& model) {
  Json settings = {{"sink_token", cut.sink_token},
                   {"sink_window", cut.sink_window},
                   {"sink_threshold", cut.sink_threshold},
                   {"gradient_window", cut.gradient_window},
                   {"massive_absolute", cut.massive_absolute},
                   {"massive_ratio", cut.massive_ratio},
                   {"residual_sink_top", residual_sink_top},
                   {"residual_sink_share", residual_sink_share},
                   {"outlier_token_ratio", kOutlierTokenRatio},
                   {"v_scale", v_scale_variant_name(cut.v_scale)},
                   {"attention", normalizer_name(cut.attention)}};
  state_rewrites(cut.rewrites, settings);
  if (cut.v_scale == VScaleVariant::none) return settings;
  settings["v_scale_lambda"] = cut.v_scale_lambda;
  settings["v_scale_sigma"] = cut.v_scale_sigma;
  settings["v_scale_layers"] = cut.v_scale_layers;  // empty: all
  settings["v_scale_c"] = static_cast<double>(model.d_model) * static_cast<double>(model.d_head) *
                          cut.v_scale_sigma * cut.v_scale_sigma * cut.v_scale_lambda;
  return settings;
}

Numbers ratios(const Numbers& numerators, const Numbers& denominators) {
  Numbers result;
  for (size_t i = 0; i < numerators.size(); ++i)
    result.push_back(ratio(numerators[i], denominators[i]));
  return result;
}

// The numbers of one layer, from its probes.
class LayerRecord {
 public:
  /// `outliers` is null where the residual stream is left out.
  LayerRecord(int64_t layer, const MetricSettings& cut, const Measurement& measurement,
              const Tensors& values, const Outliers* outliers)
      : layer_(layer),
        cut_(cut),
        T_(measurement.length),
        missing_(measurement.plan.missing),
        values_(values),
        outliers_(outliers) {
    for (int64_t t = kOtherTokens.first; t <= kOtherTokens.last && t < T_; ++t)
      if (t != cut.sink_token) others_.push_back(t);
  }

  Json json() {
    json_["layer"] = layer_;
    attention();
    norms();
    gradients();
    if (outliers_) outliers();
    if (carries(token_peaks())) outlier_tokens();
    return std::move(json_);
  }
  double sink_rate() const { return sink_rate_; }
  double gradient_sink_ratio() const { return gradient_sink_ratio_; }
  double resid_post_ratio() const { return resid_post_ratio_; }

 private:
  const HostTensor& tensor(const MetricProbe& probe) const {
    auto found = values_.find(probe.id(layer_));
    WEIR_CHECK(found != values_.end(), "no value of the probe {}", probe.id(layer_));
    return found->second;
  }
  const Numbers& value(const MetricProbe& probe) const { return tensor(probe).data; }
  bool has(const MetricProbe& probe) const { return values_.contains(probe.id(layer_)); }
  // Whether the model's hooks carry a probe, whose value has to be there then.
  bool carries(const MetricProbe& probe) const {
    const bool there = !missing_.contains(probe.id(layer_));
    WEIR_CHECK(!there || has(probe), "no value of the probe {}", probe.id(layer_));
    return there;
  }

  // Score of each sequence and head; the rate is thresholded by sequence before any mean.
  void scores() {
    const HostTensor& scores = tensor(sink_scores(cut_));
    const int64_t B = scores.shape()[0], H = scores.shape()[1];
    Numbers by_head(static_cast<size_t>(H), 0);
    double sinking = 0;
    for (int64_t b = 0; b < B; ++b)
      for (int64_t h = 0; h < H; ++h) {
        double score = scores.data[static_cast<size_t>(b * H + h)];
        by_head[static_cast<size_t>(h)] += score;
        sinking += score > cut_.sink_threshold;
      }
    for (double& score : by_head) score /= static_cast<double>(B);
    sink_rate_ = sinking / static_cast<double>(B * H);
    json_["sink_score"] = numbers(by_head);
    json_["sink_rate"] = json_number(sink_rate_);
  }

  void attention() {
    if (carries(sink_scores(cut_))) scores();
    for (const auto& [key, probe] : {std::pair("sink_mass", sink_mass(cut_)),
                                     std::pair("sink_second_moment", sink_second_moment(cut_)),
                                     std::pair("attention_entropy", attention_entropy())})
      if (carries(probe)) json_[key] = numbers(value(probe));
    if (carries(sink_mass(cut_))) head_gates();
    if (has(attention_row_sum())) json_["row_sum"] = numbers(value(attention_row_sum()));
    // What attention of equal weights to all tokens up to the query's own would give.
    double mass = 0, score = 0;
    for (int64_t t = cut_.sink_token; t < T_; ++t) {
      mass += 1.0 / static_cast<double>(t + 1);
      if (t < cut_.sink_token + cut_.sink_window) score += 1.0 / static_cast<double>(t + 1);
    }
    json_["sink_score_null"] = json_number(score / static_cast<double>(cut_.sink_window));
    json_["sink_mass_null"] = json_number(mass);
    // One where such attention exceeds the threshold too, so that the sink rate says nothing.
    json_["sink_rate_null"] =
        score / static_cast<double>(cut_.sink_window) > cut_.sink_threshold ? 1 : 0;
  }

  // A sink as a gate of its head: what a query's attention has left for other keys, 1 - a[t,sink],
  // mean over the queries that see the sink. Its entropy over the heads of the layer, in nats, of
  // gates divided by their sum: the logarithm of the number of heads where all are open alike
  // (arXiv 2602.01203 reads a sink as a head that is switched off).
  void head_gates() {
    const auto queries = static_cast<double>(T_ - cut_.sink_token);
    Numbers gates;
    double sum = 0;
    for (double mass : value(sink_mass(cut_))) {
      gates.push_back(1 - mass / queries);
      sum += gates.back();
    }
    double entropy = sum > 0 ? 0 : kNaN;
    for (double gate : gates)
      if (sum > 0 && gate > 0) entropy -= gate / sum * std::log(gate / sum);
    json_["head_gate"] = numbers(gates);
    json_["head_gate_entropy"] = json_number(std::isnan(sum) ? kNaN : entropy);
  }

  void norms() {
    Json norm = Json::object(), sink_max = Json::object(), others = Json::object();
    for (const HookOfKey& stream : stream_hooks()) {
      if (!carries(token_norm(stream.hook)) ||
          !carries(token_norm_max(stream.hook, cut_.sink_token)))
        continue;
      const Numbers& norms = value(token_norm(stream.hook));
      norm[stream.key] = numbers(norms);
      sink_max[stream.key] = json_number(value(token_norm_max(stream.hook, cut_.sink_token))[0]);
      Numbers compared;
      for (int64_t t : others_) compared.push_back(norms[static_cast<size_t>(t)]);
      others[stream.key] = {{"mean", json_number(mean(compared))},
                            {"median", json_number(median(compared))},
                            {"max", json_number(largest(compared))}};
      if (std::string(stream.key) == "resid_post")
        resid_post_ratio_ = ratio(norms[static_cast<size_t>(cut_.sink_token)], mean(compared));
    }
    if (carries(token_norm(kValueHook)))
      norm["value"] = numbers(mean_over_heads(tensor(token_norm(kValueHook))));
    if (has(token_norm(kScaledValueHook)))
      norm["value_scaled"] = numbers(mean_over_heads(tensor(token_norm(kScaledValueHook))));
    json_["norm"] = norm;
    if (carries(token_norm(kValueHook)))
      json_["value_norm_by_head"] = heads_first(tensor(token_norm(kValueHook)));
    if (carries(summed_gradient(kValueHook)))
      json_["value_grad_norm_by_head"] = heads_first(tensor(summed_gradient(kValueHook)));
    json_["sink_token_max"] = sink_max;
    json_["others"] = others;
  }

  // [1,T,heads,1] to [T].
  Numbers mean_over_heads(const HostTensor& x) const {
    const auto heads = static_cast<size_t>(x.shape()[2]);
    Numbers result;
    for (size_t t = 0; t < static_cast<size_t>(T_); ++t)
      result.push_back(mean({x.data.data() + t * heads, heads}));
    return result;
  }
  // [1,T,heads,1] to [heads][T].
  Json heads_first(const HostTensor& x) const {
    const auto heads = static_cast<size_t>(x.shape()[2]);
    Json result = Json::array();
    for (size_t h = 0; h < heads; ++h) {
      Numbers tokens;
      for (size_t t = 0; t < static_cast<size_t>(T_); ++t) tokens.push_back(x.data[t * heads + h]);
      result.push_back(numbers(tokens));
    }
    return result;
  }

  void gradients() {
    std::map<std::string, Numbers> grad;
    for (const HookOfKey& hook : gradient_hooks())
      if (carries(summed_gradient(hook.hook))) grad[hook.key] = value(summed_gradient(hook.hook));
    Json norms = Json::object();
    for (const HookOfKey& hook : head_gradient_hooks())
      if (carries(summed_gradient_of_heads(hook.hook)))
        norms[hook.key] = numbers(value(summed_gradient_of_heads(hook.hook)));
    if (has(summed_gradient_of_heads(kScaledValueHook)))
      norms["v_scaled"] = numbers(value(summed_gradient_of_heads(kScaledValueHook)));
    for (const HookOfKey& hook : gradient_hooks())
      if (grad.contains(hook.key)) norms[hook.key] = numbers(grad[hook.key]);
    json_["grad_norm"] = norms;
    if (grad.contains("attn_in")) gradient_sink(grad["attn_in"]);

    auto branch = [&](const std::string& name, const char* in, const char* branch_hook,
                      const char* before, const char* after) {
      const auto both = [&](const std::string& a, const std::string& b) {
        return grad.contains(a) && grad.contains(b);
      };
      if (both(in, name + "_out"))
        json_["bloat_" + name] = numbers(ratios(grad[in], grad[name + "_out"]));
      if (carries(summed_gradient(branch_hook)) && grad.contains(in))
        json_["compress_" + name] = numbers(ratios(value(summed_gradient(branch_hook)), grad[in]));
      if (both(before, after)) json_["change_" + name] = numbers(ratios(grad[before], grad[after]));
    };
    branch("attn", "attn_in", kAttentionBranch, "resid_pre", "resid_mid");
    branch("mlp", "mlp_in", kMlpBranch, "resid_mid", "resid_post");
  }

  void gradient_sink(const Numbers& at_input) {
    Numbers near;
    for (int64_t t = 0; t <= cut_.gradient_window; ++t)
      if (t != cut_.sink_token) near.push_back(at_input[static_cast<size_t>(t)]);
    gradient_sink_ratio_ = ratio(at_input[static_cast<size_t>(cut_.sink_token)], mean(near));
    json_["gradient_sink_ratio"] = json_number(gradient_sink_ratio_);
  }

  // Tokens whose largest input of the MLP's last projection stands far above that of most.
  void outlier_tokens() {
    const Numbers& peaks = value(token_peaks());
    const double middle = median(peaks);
    struct Place {
      size_t at;
      double over;
    };
    std::vector<Place> places;
    double most = 0;
    for (size_t i = 0; i < peaks.size(); ++i) {
      const double over = ratio(peaks[i], middle);
      if (std::isnan(over) || over > most) most = over;
      if (over > kOutlierTokenRatio) places.push_back({i, over});
    }
    std::stable_sort(places.begin(), places.end(),
                     [](const Place& a, const Place& b) { return a.over > b.over; });
    Json list = Json::array();
    for (size_t i = 0; i < std::min(places.size(), kMostOutlierTokens); ++i) {
      const auto at = static_cast<int64_t>(places[i].at);
      list.push_back(
          {{"sequence", at / T_}, {"token", at % T_}, {"ratio", json_number(places[i].over)}});
    }
    json_["mlp_token_peak_ratio"] = json_number(most);
    json_["outlier_token_count"] = places.size();
    json_["outlier_tokens"] = list;
  }

  void outliers() {
    json_["resid_post_max_abs"] = json_number(outliers_->max_abs);
    json_["resid_post_median_abs"] = json_number(outliers_->median_abs);
    json_["resid_post_kurtosis"] = json_number(outliers_->kurtosis);
    json_["resid_post_token_kurtosis"] = json_number(outliers_->token_kurtosis);
    Json sinks = Json::array();
    for (const ResidualSink& sink : outliers_->residual_sinks)
      sinks.push_back({{"feature", sink.feature}, {"share", json_number(sink.share)}});
    json_["residual_sinks"] = sinks;
    Json list = Json::array();
    for (const MassiveActivation& entry : outliers_->massive)
      list.push_back({{"sequence", entry.sequence},
                      {"token", entry.token},
                      {"feature", entry.feature},
                      {"value", json_number(entry.value)}});
    json_["massive_activations"] = list;
  }

  int64_t layer_;
  const MetricSettings& cut_;
  int64_t T_;
  const std::set<std::string>& missing_;
  const Tensors& values_;
  const Outliers* outliers_;
  std::vector<int64_t> others_;
  Json json_;
  // NaN where hooks do not carry them.
  double sink_rate_ = kNaN, gradient_sink_ratio_ = kNaN, resid_post_ratio_ = kNaN;
};

}  // namespace

void MetricSettings::set_rewrites(const Rewrites& all) {
  set_v_scale(all.v_scale);
  attention = all.attention;
  rewrites = all;
}

void MetricSettings::set_v_scale(const VScaleOptions& options) {
  v_scale = options.variant;
  v_scale_lambda = options.lambda;
  v_scale_sigma = options.sigma;
  v_scale_layers = options.layers;
}

MetricSettings cut_to(MetricSettings settings, int64_t T) {
  WEIR_CHECK(settings.sink_token >= 0 && settings.sink_token < T, "sink token {} of {} tokens",
             settings.sink_token, T);
  settings.sink_window = std::min(settings.sink_window, T - settings.sink_token);
  settings.gradient_window = std::min(settings.gradient_window, T - 1);
  return settings;
}

void add_probe_value(Tensors& values, const std::string& id, HostTensor part) {
  auto [found, is_new] = values.try_emplace(id, std::move(part));
  if (is_new) return;
  HostTensor& all = found->second;
  const Shape &shape = part.type.shape, &before = all.type.shape;
  WEIR_CHECK(!shape.empty() && shape.size() == before.size() &&
                 std::equal(shape.begin() + 1, shape.end(), before.begin() + 1),
             "a part {} does not continue {} of {}", to_string(part.type), to_string(all.type), id);
  all.type.shape[0] += shape[0];
  all.data.insert(all.data.end(), part.data.begin(), part.data.end());
}

std::string metric_record(const MeasuredModel& model, const MetricSettings& settings,
                          const Measurement& measurement, const Tensors& values) {
  std::map<int64_t, Outliers> outliers;
  for (int64_t l = 0; l < model.layers; ++l) {
    if (measurement.plan.missing.contains(raw_resid_post().id(l))) continue;
    const HostTensor& x = values.at(raw_resid_post().id(l));
    outliers[l] = outliers_of(x.data, x.shape()[1], x.shape()[2], settings.massive_absolute,
                              settings.massive_ratio);
  }
  return metric_record(model, settings, measurement, values, outliers, Workers(1));
}

std::string metric_record(const MeasuredModel& model, const MetricSettings& settings,
                          const Measurement& measurement, const Tensors& values,
                          const std::map<int64_t, Outliers>& outliers, const Workers& workers) {
  const MetricSettings cut = cut_to(settings, measurement.length);
  Json record = {{"format", "weir.measure/1"}};
  if (measurement.step) record["step"] = *measurement.step;
  if (!measurement.provenance.empty()) record["provenance"] = Json::parse(measurement.provenance);
  record["model"] = {
      {"name", model.name},   {"layers", model.layers},         {"d_model", model.d_model},
      {"heads", model.heads}, {"kv_heads", model.kv_heads},     {"d_head", model.d_head},
      {"d_ff", model.d_ff},   {"vocabulary", model.vocabulary}, {"parameters", model.parameters}};
  record["tokens"] = {{"batch", measurement.batch}, {"length", measurement.length}};
  if (measurement.around) record["tokens"].update(Json::parse(tokens_json(*measurement.around)));
  record["settings"] = settings_json(cut, model);
  record["loss"] = json_number(measurement.loss);
  if (!measurement.plan.left_out.empty()) record["left_out"] = measurement.plan.left_out;
  // Most of a record are the numbers of its layers, which become text side by side.
  const auto layers = static_cast<size_t>(model.layers);
  Numbers rates(layers), gradient_ratios(layers), resid_ratios(layers);
  std::vector<std::string> texts(layers);
  workers.parallel_tiles(
      model.layers,
      [&](int64_t first, int64_t last, int) {
        for (int64_t l = first; l < last; ++l) {
          const auto i = static_cast<size_t>(l);
          const auto found = outliers.find(l);
          LayerRecord layer(l, cut, measurement, values,
                            found == outliers.end() ? nullptr : &found->second);
          texts[i] = layer.json().dump();
          rates[i] = layer.sink_rate();
          gradient_ratios[i] = layer.gradient_sink_ratio();
          resid_ratios[i] = layer.resid_post_ratio();
        }
      },
      1);
  const Json summary = {
      {"sink_rate", json_number(mean(rates))},
      {"gradient_sink_ratio_median", json_number(median(gradient_ratios))},
      {"gradient_sink_ratio_quartiles",
       numbers({quantile(gradient_ratios, 0.25), quantile(gradient_ratios, 0.75)})},
      {"resid_post_norm_ratio_max", json_number(largest(resid_ratios))}};
  std::string text = record.dump();
  text.pop_back();
  return text + ",\"layers\":[" + join(texts, ",") + "],\"summary\":" + summary.dump() + "}";
}

}  // namespace weir
