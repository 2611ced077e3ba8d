#include "lab/specialize/signal_law.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "support/error.h"

namespace weir {

namespace {

constexpr const char* kLawTopic = "signal law";

void check_strengths(std::span<const double> strengths, Problems& problems) {
  if (strengths.empty()) problems.add("no strength is given; one a hidden direction is needed");
  for (size_t f = 0; f < strengths.size(); ++f)
    if (!std::isfinite(strengths[f]) || strengths[f] < 0)
      problems.add(fmt::format("strength {} is {}; 0 or a positive number is possible", f + 1,
                               strengths[f]));
}

void check_weights(std::span<const double> weights, size_t needed, Problems& problems) {
  if (weights.size() != needed)
    problems.add(fmt::format("there are {} weights for {} of what is drawn; one each is needed",
                             weights.size(), needed));
  for (size_t p = 0; p < weights.size(); ++p)
    if (!std::isfinite(weights[p]) || weights[p] <= 0)
      problems.add(fmt::format("weight {} is {}; a positive number is needed", p + 1, weights[p]));
}

}  // namespace

SignalLaw SignalLaw::flipped_spikes(std::span<const double> strengths,
                                    std::span<const double> weights, double positive) {
  Problems problems(kLawTopic);
  check_strengths(strengths, problems);
  check_weights(weights, strengths.size(), problems);
  if (!(positive >= 0 && positive <= 1))
    problems.add(
        fmt::format("the probability of a positive sign is {}; 0 to 1 is possible", positive));
  problems.raise();
  const auto F = static_cast<Eigen::Index>(strengths.size());
  std::vector<std::pair<double, double>> signs;
  if (positive > 0) signs.emplace_back(1, positive);
  if (positive < 1) signs.emplace_back(-1, 1 - positive);
  const auto S = static_cast<Eigen::Index>(signs.size());
  Eigen::MatrixXd points = Eigen::MatrixXd::Zero(F * S, F);
  Eigen::VectorXd shares(F * S);
  for (Eigen::Index p = 0; p < F * S; ++p) {
    const auto f = static_cast<size_t>(p / S);
    const auto& [sign, share] = signs[static_cast<size_t>(p % S)];
    points(p, p / S) = sign * strengths[f];
    shares[p] = weights[f] * share;
  }
  return discrete(points, shares);
}

SignalLaw SignalLaw::one_sided_spikes(std::span<const double> strengths,
                                      std::span<const double> weights) {
  return flipped_spikes(strengths, weights, 1);
}

SignalLaw SignalLaw::discrete(const Eigen::MatrixXd& points, const Eigen::VectorXd& weights) {
  Problems problems(kLawTopic);
  if (points.rows() == 0 || points.cols() == 0)
    problems.add(fmt::format("the points are {} x {}; points x hidden directions are needed",
                             points.rows(), points.cols()));
  for (Eigen::Index p = 0; p < points.rows(); ++p)
    if (!points.row(p).allFinite())
      problems.add(fmt::format("point {} has a coordinate that is not finite", p + 1));
  check_weights({weights.data(), static_cast<size_t>(weights.size())},
                static_cast<size_t>(points.rows()), problems);
  problems.raise();
  SignalLaw law;
  law.points_ = points;
  law.weights_ = weights / weights.sum();
  law.offsets_ = law.weights_.array().log() - points.rowwise().squaredNorm().array() / 2;
  return law;
}

SignalLaw SignalLaw::gaussian(std::span<const double> strengths) {
  Problems problems(kLawTopic);
  check_strengths(strengths, problems);
  problems.raise();
  SignalLaw law;
  law.kind_ = Kind::kGaussian;
  law.scales_ = Eigen::Map<const Eigen::VectorXd>(strengths.data(),
                                                  static_cast<Eigen::Index>(strengths.size()));
  law.offsets_ = -0.5 * law.scales_.array().square().log1p();
  return law;
}

double SignalLaw::largest_strength() const {
  return kind_ == Kind::kGaussian ? scales_.maxCoeff() : points_.rowwise().norm().maxCoeff();
}

Eigen::VectorXd SignalLaw::mean() const {
  if (kind_ == Kind::kGaussian) return Eigen::VectorXd::Zero(dimension());
  return points_.transpose() * weights_;
}

Eigen::MatrixXd SignalLaw::covariance() const {
  if (kind_ == Kind::kGaussian) return scales_.array().square().matrix().asDiagonal();
  const Eigen::MatrixXd centred = points_.rowwise() - mean().transpose();
  return centred.transpose() * weights_.asDiagonal() * centred;
}

Eigen::VectorXd SignalLaw::draw(Random& random) const {
  if (kind_ == Kind::kGaussian) {
    Eigen::VectorXd theta(dimension());
    for (Eigen::Index f = 0; f < theta.size(); ++f) theta[f] = scales_[f] * random.normal();
    return theta;
  }
  double left = random.uniform();
  Eigen::Index p = 0;
  while (p + 1 < weights_.size() && left >= weights_[p]) left -= weights_[p++];
  return points_.row(p).transpose();
}

SignalLaw SignalLaw::scaled(double factor) const {
  if (kind_ == Kind::kDiscrete) return discrete(factor * points_, weights_);
  const Eigen::VectorXd scales = std::abs(factor) * scales_;
  return gaussian({scales.data(), static_cast<size_t>(scales.size())});
}

double SignalLaw::log_ratio(const double* y) const {
  const Eigen::Index F = dimension();
  if (kind_ == Kind::kGaussian) {
    double sum = 0;
    for (Eigen::Index f = 0; f < F; ++f) {
      const double variance = scales_[f] * scales_[f];
      sum += offsets_[f] + variance / (1 + variance) * y[f] * y[f] / 2;
    }
    return sum;
  }
  // Of one pass: the largest exponent so far, and the sum relative to it.
  double largest = -std::numeric_limits<double>::infinity(), sum = 0;
  for (Eigen::Index p = 0; p < points_.rows(); ++p) {
    double exponent = offsets_[p];
    for (Eigen::Index f = 0; f < F; ++f) exponent += points_(p, f) * y[f];
    if (exponent > largest) {
      sum = sum * std::exp(largest - exponent) + 1;
      largest = exponent;
    } else {
      sum += std::exp(exponent - largest);
    }
  }
  return largest + std::log(sum);
}

}  // namespace weir
