#include "lab/report/compare_numbers.h"

#include <algorithm>
#include <cmath>

#include "lab/measure/statistics.h"

namespace weir {

namespace {

using OverLayers = double (*)(const std::vector<double>&);

double mean_of(const std::vector<double>& values) { return mean(values); }
double median_over(const std::vector<double>& values) { return median(values); }
double largest_of(const std::vector<double>& values) { return largest(values); }

struct Definition {
  Quantity quantity;
  const char* key;  ///< in MeasuredStep::by_layer; "" for the loss
  OverLayers over_layers;
};

// Keys and ways over layers are those of report_summary.cpp where both have a quantity.
const std::vector<Definition>& definitions() {
  static const std::vector<Definition> all = {
      {{"loss", "loss", "loss of the measured batch, nats", false}, "", mean_of},
      {{"sink_score", "sink score", "sink score, mean over layers and heads", false},
       "sink_score",
       mean_of},
      {{"sink_score_max", "sink score, largest head", "sink score of the head that has most",
        false},
       "sink_score_max",
       largest_of},
      {{"sink_mass", "sink mass", "sink mass, mean over layers and heads", true},
       "sink_mass",
       mean_of},
      {{"gradient_sink_ratio", "R_GS", "gradient-sink ratio, median over layers", true},
       "gradient_sink_ratio",
       median_over},
      {{"norm_ratio", "norm ratio",
        "norm of the residual stream behind a layer, sink token over tokens 1 to 15, largest over "
        "layers",
        true},
       "norm.resid_post.ratio",
       largest_of},
      {{"sink_norm", "norm of the sink token",
        "norm of the sink token's residual stream behind a layer, largest over layers", true},
       "norm.resid_post.sink",
       largest_of},
      {{"value_ratio", "value ratio",
        "norm of value vectors, sink token over tokens 1 to 15, median over layers", true},
       "norm.value.ratio",
       median_over},
      {{"mlp_out_norm", "MLP output of the sink token",
        "norm of what an MLP adds to the sink token, largest over layers", true},
       "norm.mlp_out.sink",
       largest_of},
      {{"max_activation", "largest activation",
        "largest |x| of the residual stream behind a layer, largest over layers", true},
       "resid_post_max_abs",
       largest_of},
  };
  return all;
}

double value_of(const MeasuredStep& step, const Definition& definition) {
  if (*definition.key == '\0') return step.loss;
  const auto found = step.by_layer.find(definition.key);
  return found == step.by_layer.end() ? kNaN : definition.over_layers(found->second);
}

}  // namespace

const std::vector<Quantity>& quantities() {
  static const std::vector<Quantity> all = [] {
    std::vector<Quantity> result;
    for (const Definition& one : definitions()) result.push_back(one.quantity);
    return result;
  }();
  return all;
}

Curves curves_of(const Replicate& replicate) {
  Curves curves;
  curves.values.resize(definitions().size());
  for (const MeasuredStep& step : replicate.measured.measured) {
    curves.steps.push_back(step.step);
    curves.tokens.push_back(static_cast<double>(step.step * replicate.tokens_a_step));
    for (size_t q = 0; q < definitions().size(); ++q)
      curves.values[q].push_back(value_of(step, definitions()[q]));
  }
  return curves;
}

double value_between(const std::vector<double>& values, const Between& place) {
  const double from = values.at(place.at);
  return place.part == 0 ? from : from + place.part * (values.at(place.at + 1) - from);
}

std::optional<Between> at_tokens(const Curves& curves, double tokens) {
  const auto after = std::lower_bound(curves.tokens.begin(), curves.tokens.end(), tokens);
  if (after == curves.tokens.end()) return std::nullopt;
  const auto index = static_cast<size_t>(after - curves.tokens.begin());
  if (*after == tokens) return Between{index, 0};
  if (index == 0) return std::nullopt;
  const double from = curves.tokens[index - 1];
  return Between{index - 1, (tokens - from) / (*after - from)};
}

std::optional<Between> at_loss(const Curves& curves, double loss) {
  const std::vector<double>& losses = curves.values.front();
  for (size_t i = 0; i < losses.size(); ++i) {
    if (!(losses[i] <= loss)) continue;  // NaN is not there yet
    if (i == 0 || losses[i] == loss || !std::isfinite(losses[i - 1])) return Between{i, 0};
    return Between{i - 1, (losses[i - 1] - loss) / (losses[i - 1] - losses[i])};
  }
  return std::nullopt;
}

double lowest_loss(const Curves& curves) {
  double least = kNaN;
  for (double loss : curves.values.front())
    if (!std::isnan(loss) && !(loss >= least)) least = loss;
  return least;
}

}  // namespace weir
