#include "lab/experiments/dial_numbers.h"

#include <algorithm>
#include <cmath>

#include "support/error.h"

namespace weir {
namespace {

double dot(const double* x, const double* y, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += x[i] * y[i];
  return sum;
}

// One head of one sequence: sums over the queries behind the key.
struct HeadNumbers {
  double mass = 0, moment = 0, energy = 0, mean_square = 0, noise = 0;
  double by_sum = 0, by_mass = 0, by_moment = 0;  // right sides
  double error = 0;
};

// Weights and rows of g lie `stride` rows apart.
HeadNumbers head_numbers(const double* a, const double* g, const double* dv, int64_t first,
                         int64_t T, int64_t stride, int64_t d) {
  HeadNumbers n;
  const auto row = [&](int64_t t) { return g + t * stride * d; };
  std::vector<double> mean(static_cast<size_t>(d)), sum(static_cast<size_t>(d));
  double largest = 0, squares = 0;
  for (int64_t t = first; t < T; ++t) {
    const double weight = a[t * stride], square = dot(row(t), row(t), d), norm = std::sqrt(square);
    n.mass += weight;
    n.moment += weight * weight;
    n.by_sum += std::abs(weight) * norm;
    largest = std::max(largest, norm);
    squares += square;
    for (int64_t i = 0; i < d; ++i) {
      sum[static_cast<size_t>(i)] += weight * row(t)[i];
      mean[static_cast<size_t>(i)] += row(t)[i] / static_cast<double>(T - first);
    }
  }
  n.energy = dot(dv, dv, d);
  n.mean_square = dot(mean.data(), mean.data(), d);
  n.noise =
      std::max(0.0, squares / static_cast<double>(std::max<int64_t>(1, T - first)) - n.mean_square);
  n.by_mass = n.mass * largest;
  n.by_moment = std::sqrt(n.moment) * std::sqrt(squares);
  for (int64_t i = 0; i < d; ++i) sum[static_cast<size_t>(i)] -= dv[i];
  n.error = std::sqrt(dot(sum.data(), sum.data(), d));
  return n;
}

// Left over right side of a bound; both are zero where no query sees the key.
double tightness(double left, double right) {
  if (left == 0) return 0;
  return right > 0 ? left / right : INFINITY;
}

}  // namespace

void WorstCase::see(double value, const std::function<std::string()>& where) {
  if (!(value > check_.worst) && !std::isnan(value)) return;
  if (std::isnan(check_.worst)) return;
  check_.worst = value;
  check_.where = where();
  check_.holds = value <= check_.limit;
}

AttentionSums::AttentionSums(std::vector<int64_t> heads) : heads_(std::move(heads)) {
  const std::vector<double> zeros(heads_.size(), 0);
  sums_ = {zeros, zeros, zeros, zeros, zeros, zeros, zeros, zeros};
}

void AttentionSums::add(const HostTensor& weights, const HostTensor& gradients,
                        const HostTensor& upstream, int64_t key, AttentionChecks& checks,
                        const std::function<std::string(int64_t, int64_t)>& where) {
  const Shape& shape = upstream.shape();
  const int64_t B = shape[0], T = shape[1], H = shape[2], d = shape[3];
  for (int64_t b = 0; b < B; ++b)
    for (size_t i = 0; i < heads_.size(); ++i) {
      const int64_t h = heads_[i];
      const HeadNumbers n = head_numbers(weights.data.data() + b * T * H + h,
                                         upstream.data.data() + (b * T * H + h) * d,
                                         gradients.data.data() + (b * H + h) * d, key + 1, T, H, d);
      sums_.mass[i] += n.mass;
      sums_.second_moment[i] += n.moment;
      sums_.energy[i] += n.energy;
      sums_.mean_curve[i] += n.mass * n.mass * n.mean_square;
      sums_.noise_curve[i] += n.mass * n.mass * n.mean_square + n.noise * n.moment;
      const double left = std::sqrt(n.energy);
      const auto see = [&](double value, std::vector<double>& largest, WorstCase& worst) {
        if (!(value <= largest[i])) largest[i] = value;
        worst.see(value, [&] { return where(b, h); });
      };
      see(tightness(left, n.by_sum), sums_.by_sum, checks.by_sum);
      see(tightness(left, n.by_mass), sums_.by_mass, checks.by_mass);
      see(tightness(left, n.by_moment), sums_.by_moment, checks.by_moment);
      checks.identity.see(tightness(n.error, n.by_sum), [&] { return where(b, h); });
    }
  sequences_ += B;
}

void AttentionSums::add_mass(const HostTensor& weights, const std::vector<int64_t>& keys) {
  const Shape& shape = weights.shape();
  const int64_t B = shape[0], T = shape[1], K = shape[3];
  for (size_t i = 0; i < heads_.size(); ++i)
    for (int64_t b = 0; b < B; ++b)
      for (size_t j = 0; j < keys.size(); ++j)
        for (int64_t t = keys[j] + 1; t < T; ++t)
          sums_.mass[i] += weights.at({b, t, heads_[i], static_cast<int64_t>(j)});
  WEIR_CHECK(static_cast<int64_t>(keys.size()) <= K, "{} keys of {}", keys.size(), K);
  sequences_ += B;
}

AttentionPoint AttentionSums::mean() const {
  AttentionPoint point = sums_;
  for (std::vector<double>* sums :
       {&point.mass, &point.second_moment, &point.energy, &point.mean_curve, &point.noise_curve})
    for (double& sum : *sums) sum /= static_cast<double>(sequences_);
  return point;
}

void NormSums::add(const HostTensor& input, const HostTensor& input_gradient,
                   const HostTensor& output_gradient) {
  const int64_t B = input.shape()[0], D = input.shape()[2];
  for (int64_t b = 0; b < B; ++b) {
    const auto row = [&](const HostTensor& x) { return x.data.data() + b * D; };
    const double *x = row(input), *dx = row(input_gradient), *dn = row(output_gradient);
    const double square = dot(x, x, D);
    inputs_ += square;
    input_gradients_ += dot(dx, dx, D);
    output_gradients_ += dot(dn, dn, D);
    double mean = 0;
    if (centred_)
      for (int64_t i = 0; i < D; ++i) mean += x[i] / static_cast<double>(D);
    const double spread = square / static_cast<double>(D) - mean * mean;
    least_ = sequences_ == 0 && b == 0 ? spread : std::min(least_, spread);
  }
  sequences_ += B;
}

NormPoint NormSums::mean() const {
  return {std::sqrt(inputs_ / static_cast<double>(sequences_)),
          std::sqrt(input_gradients_ / output_gradients_), least_};
}

}  // namespace weir
