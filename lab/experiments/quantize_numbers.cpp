#include "lab/experiments/quantize_numbers.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lab/measure/statistics.h"
#include "runtime/random.h"

namespace weir {
namespace {

constexpr double kLeastSmoothing = 1e-5, kLeastAware = 1e-4;

void keep_larger(std::vector<double>& all, const double* values) {
  for (size_t j = 0; j < all.size(); ++j) all[j] = std::max(all[j], values[j]);
}

// The product of the program is of f32: so is a scale.
double as_f32(double value) { return static_cast<float>(value); }

}  // namespace

FeatureRanges::FeatureRanges(int64_t features, int64_t draws)
    : sink_(static_cast<size_t>(features)),
      others_(sink_),
      mean_sum_(sink_),
      draws_(static_cast<size_t>(draws)) {}

void FeatureRanges::add(int64_t draw, const double* sink, const double* others,
                        const double* mean) {
  keep_larger(sink_, sink);
  keep_larger(others_, others);
  double& most = draws_[static_cast<size_t>(draw)];
  for (size_t j = 0; j < sink_.size(); ++j) {
    most = std::max({most, sink[j], others[j]});
    mean_sum_[j] += mean[j];
  }
  ++sequences_;
}

std::vector<double> FeatureRanges::maxima(bool with_sink) const {
  std::vector<double> all = others_;
  if (with_sink) keep_larger(all, sink_.data());
  return all;
}

std::vector<double> FeatureRanges::means() const {
  std::vector<double> means = mean_sum_;
  for (double& mean : means) mean /= static_cast<double>(sequences_);
  return means;
}

std::vector<double> smooth_quant_scales(const std::vector<double>& activations,
                                        const std::vector<double>& weights, double alpha) {
  std::vector<double> scales(activations.size(), 1);
  for (size_t j = 0; j < scales.size(); ++j)
    if (activations[j] > 0 && weights[j] > 0)
      scales[j] = as_f32(std::max(
          kLeastSmoothing, std::pow(activations[j], alpha) / std::pow(weights[j], 1 - alpha)));
  return scales;
}

std::vector<double> activation_aware_scales(const std::vector<double>& means, double alpha) {
  std::vector<double> scales(means.size());
  for (size_t j = 0; j < scales.size(); ++j)
    scales[j] = std::max(kLeastAware, std::pow(means[j], alpha));
  const auto [least, most] = std::minmax_element(scales.begin(), scales.end());
  const double middle = std::sqrt(*least * *most);
  for (double& scale : scales) scale = as_f32(scale / middle);
  return scales;
}

double static_scale(const std::vector<double>& maxima, const std::vector<double>& smoothing) {
  float most = 0;
  for (size_t j = 0; j < maxima.size(); ++j)
    most = std::max(most, static_cast<float>(maxima[j]) / static_cast<float>(smoothing[j]));
  return most / 127.0F;
}

double row_dispersion(const std::vector<double>& maxima) {
  return ratio(largest(maxima), median(maxima));
}

RoundingError RowSums::result(int64_t columns) const {
  std::vector<double> rows;
  double all_error = 0, all_energy = 0;
  for (size_t row = 0; row < error.size(); ++row) {
    all_error += error[row];
    all_energy += energy[row];
    // A row of zeros has no error.
    rows.push_back(energy[row] > 0 ? std::sqrt(error[row] / energy[row]) : 0);
  }
  const double count = static_cast<double>(error.size()) * static_cast<double>(columns);
  return {all_energy > 0 ? std::sqrt(all_error / all_energy) : 0, median(std::move(rows)),
          lost / count};
}

Bootstrap::Bootstrap(size_t sequences, int64_t resamples, uint64_t seed, double confidence)
    : sequences_(sequences), confidence_(confidence) {
  for (int64_t n = 0; n < resamples; ++n) {
    Random random(seed, static_cast<uint64_t>(n));
    std::vector<size_t>& chosen = resamples_.emplace_back(sequences);
    for (size_t& place : chosen) place = random.below(sequences);
  }
}

template <typename Statistic>
BootstrapEstimate Bootstrap::estimate(const SequenceLosses& a, const SequenceLosses& b,
                                      std::vector<double> SequenceLosses::* sums,
                                      Statistic statistic) const {
  const auto of = [&](const std::vector<size_t>& chosen) {
    double sum_a = 0, sum_b = 0, targets_a = 0, targets_b = 0;
    for (size_t i : chosen) {
      sum_a += (a.*sums)[i];
      targets_a += a.targets[i];
      sum_b += (b.*sums)[i];
      targets_b += b.targets[i];
    }
    return statistic(sum_a / targets_a, sum_b / targets_b);
  };
  std::vector<size_t> all(sequences_);
  std::iota(all.begin(), all.end(), 0);
  std::vector<double> values;
  for (const std::vector<size_t>& chosen : resamples_) values.push_back(of(chosen));
  const double tail = (1 - confidence_) / 2;
  return {of(all), quantile(values, tail), quantile(values, 1 - tail)};
}

BootstrapEstimate Bootstrap::loss_difference(const SequenceLosses& a,
                                             const SequenceLosses& b) const {
  return estimate(a, b, &SequenceLosses::nats, [](double x, double y) { return y - x; });
}

BootstrapEstimate Bootstrap::recalled_difference(const SequenceLosses& a,
                                                 const SequenceLosses& b) const {
  return estimate(a, b, &SequenceLosses::recalled, [](double x, double y) { return y - x; });
}

BootstrapEstimate Bootstrap::perplexity_difference(const SequenceLosses& a,
                                                   const SequenceLosses& b) const {
  return estimate(a, b, &SequenceLosses::nats,
                  [](double x, double y) { return std::exp(y) - std::exp(x); });
}

}  // namespace weir
