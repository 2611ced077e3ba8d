#pragma once
// The numbers of a quantisation experiment: ranges of calibration, scales that follow from them,
// what rounding did, and intervals by the bootstrap.
#include <string>
#include <vector>

#include "engine/probe_value.h"
#include "lab/experiments/quantize.h"

namespace weir {

/// Ranges of a site's features over calibration sequences.
class FeatureRanges {
 public:
  FeatureRanges(int64_t features, int64_t draws);
  /// Of one sequence: max|x_j| of the sink token's features and over the others', mean|x_j| over
  /// all tokens.
  void add(int64_t draw, const double* sink, const double* others, const double* mean);

  /// max|x_j| over all draws.
  std::vector<double> maxima(bool with_sink) const;
  std::vector<double> means() const;
  const std::vector<double>& draws() const { return draws_; }  ///< max|x| of each

 private:
  std::vector<double> sink_, others_, mean_sum_, draws_;
  int64_t sequences_ = 0;
};

/// s_j = (max|x_j|)^alpha / (max|w_j|)^(1 - alpha), at least 1e-5; 1 where one of them is 0.
std::vector<double> smooth_quant_scales(const std::vector<double>& activations,
                                        const std::vector<double>& weights, double alpha);
/// s_j = (mean|x_j|)^alpha, at least 1e-4, over sqrt(max s min s).
std::vector<double> activation_aware_scales(const std::vector<double>& means, double alpha);
/// max_j |x_j| / s_j over 127, as f32 computes it.
double static_scale(const std::vector<double>& maxima, const std::vector<double>& smoothing);

/// Sums by row of one tensor, from parts.
struct RowSums {
  std::vector<double> error, energy;
  double lost = 0;
  RoundingError result(int64_t columns) const;
};

/// max|x| over the median of a token's max|x|, of the maxima of all tokens.
double row_dispersion(const std::vector<double>& maxima);

/// Draws of sequences with replacement, the same for all that is compared.
class Bootstrap {
 public:
  Bootstrap(size_t sequences, int64_t resamples, uint64_t seed, double confidence);
  /// loss(b) - loss(a), in nats a target.
  BootstrapEstimate loss_difference(const SequenceLosses& a, const SequenceLosses& b) const;
  /// share_recalled(b) - share_recalled(a).
  BootstrapEstimate recalled_difference(const SequenceLosses& a, const SequenceLosses& b) const;
  /// exp(loss(b)) - exp(loss(a)).
  BootstrapEstimate perplexity_difference(const SequenceLosses& a, const SequenceLosses& b) const;

 private:
  /// `statistic` of two sums of sequences, each over the targets of these.
  template <typename Statistic>
  BootstrapEstimate estimate(const SequenceLosses& a, const SequenceLosses& b,
                             std::vector<double> SequenceLosses::* sums, Statistic statistic) const;

  size_t sequences_;
  double confidence_;
  std::vector<std::vector<size_t>> resamples_;
};

}  // namespace weir
