#include "lab/specialize/dormand_prince.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace weir {

namespace {

constexpr int kStages = 7;
// Row s: how much of the slopes before stage s + 2 makes its place; the last row is the result.
constexpr double kStage[kStages - 1][kStages - 1] = {
    {1.0 / 5},
    {3.0 / 40, 9.0 / 40},
    {44.0 / 45, -56.0 / 15, 32.0 / 9},
    {19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729},
    {9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656},
    {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84}};
// The result of order 5 minus that of order 4.
constexpr double kError[kStages] = {71.0 / 57600,      0,          -71.0 / 16695, 71.0 / 1920,
                                    -17253.0 / 339200, 22.0 / 525, -1.0 / 40};
constexpr double kFirstStep = 1e-3;

}  // namespace

DormandPrince::DormandPrince(Function f, const Eigen::VectorXd& y, double tolerance)
    : f_(std::move(f)), y_(y), slope_(f_(y)), tolerance_(tolerance), size_(kFirstStep) {}

double DormandPrince::error_of(const Eigen::VectorXd& next, const Eigen::VectorXd& error) const {
  const Eigen::ArrayXd scale = tolerance_ * (1 + y_.array().abs().max(next.array().abs()));
  return std::sqrt((error.array() / scale).square().mean());
}

bool DormandPrince::step(double end) {
  const bool last = time_ + size_ >= end;
  const double size = last ? end - time_ : size_;
  if (time_ + size <= time_ || size < 1e-14) {
    // Rounding may leave a remainder to `end` that is no step; a small step of ours is a failure.
    if (!last || size_ < 1e-14) return false;
    time_ = end;
    return true;
  }
  std::array<Eigen::VectorXd, kStages> slopes;
  slopes[0] = slope_;
  Eigen::VectorXd next;
  for (size_t s = 1; s < kStages; ++s) {
    next = y_;
    for (size_t i = 0; i < s; ++i) next += size * kStage[s - 1][i] * slopes[i];
    slopes[s] = f_(next);
  }
  Eigen::VectorXd difference = Eigen::VectorXd::Zero(y_.size());
  for (size_t s = 0; s < kStages; ++s) difference += size * kError[s] * slopes[s];
  const double error = error_of(next, difference);
  if (!std::isfinite(error) || error > 1) {
    ++rejected_;
    size_ = size * (std::isfinite(error) ? std::max(0.2, 0.9 * std::pow(error, -0.2)) : 0.1);
    return size_ >= 1e-14;
  }
  ++steps_;
  time_ = last ? end : time_ + size;
  y_ = next;
  slope_ = slopes[kStages - 1];
  const double grown = size * std::min(5.0, 0.9 * std::pow(std::max(error, 1e-10), -0.2));
  // A step that was cut to end at a requested time does not shorten those after it.
  size_ = last ? std::max(size_, grown) : grown;
  return true;
}

}  // namespace weir
