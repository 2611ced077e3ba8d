#pragma once
// The law of the signal in the single-location model of Sagitova, Duranthon and Zdeborova,
// "Specialization of softmax attention heads" (arXiv 2603.03993). A sample has L tokens in R^D; one
// of them, the hidden one, has sum_f theta_f k*_f added to its noise N(0, I), where k*_1..k*_F are
// orthonormal hidden directions and theta in R^F is drawn from the law.
#include <Eigen/Core>
#include <cstdint>
#include <span>

#include "runtime/random.h"

namespace weir {

/// A law of theta: points with weights, or independent Gaussians. Immutable.
class SignalLaw {
 public:
  enum class Kind { kDiscrete, kGaussian };

  /// Direction f is drawn with weights[f]; theta = +strengths[f] along it with probability
  /// `positive`, else -strengths[f]. F = number of strengths. Weights are divided by their sum.
  /// UserError that lists all mistakes: no direction, other number of weights, a strength below 0,
  /// a weight that is not positive, `positive` outside [0, 1], numbers that are not finite.
  static SignalLaw flipped_spikes(std::span<const double> strengths,
                                  std::span<const double> weights, double positive = 0.5);
  /// The same with positive = 1: F points.
  static SignalLaw one_sided_spikes(std::span<const double> strengths,
                                    std::span<const double> weights);
  /// Points [P, F], a row each, with weights [P] > 0, which are divided by their sum.
  static SignalLaw discrete(const Eigen::MatrixXd& points, const Eigen::VectorXd& weights);
  /// N(0, diag(strengths^2)).
  static SignalLaw gaussian(std::span<const double> strengths);

  Kind kind() const { return kind_; }
  int64_t dimension() const { return kind_ == Kind::kDiscrete ? points_.cols() : scales_.size(); }
  /// Of a discrete law: [P, F], and [P] with the sum 1. Empty for a Gaussian.
  const Eigen::MatrixXd& points() const { return points_; }
  const Eigen::VectorXd& weights() const { return weights_; }
  /// Of a Gaussian law: standard deviations [F]. Empty for a discrete law.
  const Eigen::VectorXd& scales() const { return scales_; }

  /// The largest |theta| of a discrete law, or the largest standard deviation of a Gaussian.
  double largest_strength() const;
  Eigen::VectorXd mean() const;        ///< [F]
  Eigen::MatrixXd covariance() const;  ///< [F, F]
  /// One theta [F]. A discrete law takes one uniform number of `random`, a Gaussian F normal ones.
  Eigen::VectorXd draw(Random& random) const;
  /// The law of factor x theta.
  SignalLaw scaled(double factor) const;
  /// log E_theta exp(theta . y - |theta|^2 / 2): the log likelihood ratio of "this token is the
  /// hidden one" given y_f = x . k*_f, [F]. Exact for both kinds:
  ///   discrete   log sum_p w_p exp(theta_p . y - |theta_p|^2 / 2)
  ///   Gaussian   sum_f [ s_f^2 y_f^2 / (2 (1 + s_f^2)) - log(1 + s_f^2) / 2 ]
  double log_ratio(const double* y) const;

 private:
  SignalLaw() = default;

  Kind kind_ = Kind::kDiscrete;
  Eigen::MatrixXd points_;
  Eigen::VectorXd weights_, scales_;
  Eigen::VectorXd offsets_;  ///< of log_ratio: log w_p - |theta_p|^2 / 2, or the Gaussian constants
};

}  // namespace weir
