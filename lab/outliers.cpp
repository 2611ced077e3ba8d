#include "lab/outliers.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "lab/statistics.h"
#include "support/error.h"

namespace weir {
namespace {

// Sign aside, a float's bits order as its values do: 8 bits of exponent and 7 of the fraction.
constexpr int64_t kBins = 1 << 15;
// Share of ranks on each side of the first part's median whose elements are kept.
constexpr double kWindow = 0.04;

template <typename T>
int64_t bin_of(T size) {
  return std::bit_cast<uint32_t>(static_cast<float>(size)) >> 16;
}

// Elements that are looked at together, several times while they are in the nearest cache.
constexpr size_t kChunk = 2048;

// Calls f(i, lane) for every i below `count`, in four chains that the processor runs side by side.
template <typename Function>
void in_lanes(size_t count, Function f) {
  size_t i = 0;
  for (; i + 4 <= count; i += 4)
    for (size_t lane = 0; lane < 4; ++lane) f(i + lane, lane);
  for (; i < count; ++i) f(i, 0);
}

double sum_of(const double (&lanes)[4]) { return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]); }

}  // namespace

OutlierStatistics::OutlierStatistics(int64_t tokens, int64_t features, int64_t total,
                                     double massive_absolute)
    : tokens_(tokens),
      features_(features),
      total_(total),
      massive_absolute_(massive_absolute),
      counts_(kBins) {
  WEIR_CHECK(total > 0 && total < int64_t{1} << 32, "outliers of {} elements", total);
}

int64_t OutlierStatistics::bytes(int64_t total) {
  return kBins * 4 + static_cast<int64_t>(3 * kWindow * static_cast<double>(total)) * 4;
}

template <typename T>
void OutlierStatistics::add(std::span<const T> part) {
  const bool first = seen_ == 0;
  for (size_t at = 0; at < part.size(); at += kChunk) {
    const auto chunk = part.subspan(at, std::min(kChunk, part.size() - at));
    double largest = 0;
    for (T x : chunk) {
      const T size = std::abs(x);
      if (std::isnan(size)) {
        has_nan_ = true;
        continue;
      }
      ++counts_[static_cast<size_t>(bin_of(size))];
      largest = std::max(largest, static_cast<double>(size));
    }
    largest_ = std::max(largest_, largest);
    if (largest > massive_absolute_) find_massive(chunk);
    join(moments_of(chunk));
    seen_ += static_cast<int64_t>(chunk.size());
  }
  if (has_nan_) return;
  if (seen_ == total_ && first) {
    const auto [low, high] = middle_ranks();
    open_window(low, high);
  } else if (first) {
    const auto n = static_cast<double>(seen_);
    open_window(static_cast<int64_t>((0.5 - kWindow) * n),
                static_cast<int64_t>((0.5 + kWindow) * n));
    kept_.reserve(std::is_same_v<T, float> ? static_cast<size_t>(2.5 * kWindow * total_) : 0);
  }
  keep(part);
}

template <typename T>
void OutlierStatistics::find_massive(std::span<const T> part) {
  for (size_t i = 0; i < part.size(); ++i) {
    const double size = std::abs(static_cast<double>(part[i]));
    if (!(size > massive_absolute_)) continue;
    if (massive_.size() == most_massive && size <= std::abs(massive_.back().first)) continue;
    const auto at = std::upper_bound(
        massive_.begin(), massive_.end(), size,
        [](double given, const auto& entry) { return given > std::abs(entry.first); });
    massive_.insert(at, {static_cast<double>(part[i]), seen_ + static_cast<int64_t>(i)});
    if (massive_.size() > most_massive) massive_.pop_back();
  }
}

template <typename T>
OutlierStatistics::Moments OutlierStatistics::moments_of(std::span<const T> part) {
  Moments m;
  m.count = static_cast<double>(part.size());
  double sums[4] = {}, second[4] = {}, third[4] = {}, fourth[4] = {};
  in_lanes(part.size(), [&](size_t i, size_t lane) { sums[lane] += static_cast<double>(part[i]); });
  m.mean = sum_of(sums) / m.count;
  in_lanes(part.size(), [&](size_t i, size_t lane) {
    const double x = static_cast<double>(part[i]) - m.mean, square = x * x;
    second[lane] += square;
    third[lane] += square * x;
    fourth[lane] += square * square;
  });
  m.second = sum_of(second);
  m.third = sum_of(third);
  m.fourth = sum_of(fourth);
  return m;
}

// Central sums of a union from those of its parts (Pebay, "Formulas for robust, one-pass parallel
// computation of covariances and arbitrary-order statistical moments", SAND2008-6212).
void OutlierStatistics::join(const Moments& b) {
  const Moments a = moments_;
  if (a.count == 0) {
    moments_ = b;
    return;
  }
  const double n = a.count + b.count, d = b.mean - a.mean, na = a.count, nb = b.count;
  moments_.count = n;
  moments_.mean = a.mean + d * nb / n;
  moments_.second = a.second + b.second + d * d * na * nb / n;
  moments_.third = a.third + b.third + d * d * d * na * nb * (na - nb) / (n * n) +
                   3 * d * (na * b.second - nb * a.second) / n;
  moments_.fourth = a.fourth + b.fourth +
                    d * d * d * d * na * nb * (na * na - na * nb + nb * nb) / (n * n * n) +
                    6 * d * d * (na * na * b.second + nb * nb * a.second) / (n * n) +
                    4 * d * (na * b.third - nb * a.third) / n;
}

template <typename T>
void OutlierStatistics::keep(std::span<const T> part) {
  const auto width = static_cast<uint64_t>(last_bin_ - first_bin_);
  for (T x : part) {
    const T size = std::abs(x);
    // One comparison, nearly always true: two would be a coin toss each.
    if (static_cast<uint64_t>(bin_of(size) - first_bin_) > width) continue;
    if constexpr (std::is_same_v<T, float>)
      kept_.push_back(size);
    else
      kept_doubles_.push_back(size);
  }
}

std::pair<int64_t, int64_t> OutlierStatistics::middle_ranks() const {
  return {(seen_ - 1) / 2, seen_ / 2};
}

int64_t OutlierStatistics::bin_of_rank(int64_t rank) const {
  int64_t below = 0;
  for (int64_t bin = 0; bin < kBins; ++bin) {
    below += counts_[static_cast<size_t>(bin)];
    if (below > rank) return bin;
  }
  internal_error_at("a rank beyond all elements");
}

void OutlierStatistics::open_window(int64_t first_rank, int64_t last_rank) {
  first_bin_ = bin_of_rank(first_rank);
  last_bin_ = bin_of_rank(last_rank);
  kept_.clear();
  kept_doubles_.clear();
}

bool OutlierStatistics::needs_second_pass() const {
  WEIR_CHECK(seen_ == total_, "{} of {} elements came", seen_, total_);
  if (has_nan_) return false;
  const auto [low, high] = middle_ranks();
  return bin_of_rank(low) < first_bin_ || bin_of_rank(high) > last_bin_;
}

template <typename T>
void OutlierStatistics::add_again(std::span<const T> part) {
  if (needs_second_pass()) {
    const auto [low, high] = middle_ranks();
    open_window(low, high);
  }
  keep(part);
}

double OutlierStatistics::median() const {
  if (has_nan_) return std::numeric_limits<double>::quiet_NaN();
  WEIR_CHECK(!needs_second_pass(), "the median lies outside of what was kept");
  int64_t below = 0;
  for (int64_t bin = 0; bin < first_bin_; ++bin) below += counts_[static_cast<size_t>(bin)];
  const auto [low, high] = middle_ranks();
  const auto middle = [&](auto values) {
    const auto at = [&](int64_t rank) {
      auto nth = values.begin() + (rank - below);
      std::nth_element(values.begin(), nth, values.end());
      return static_cast<double>(*nth);
    };
    const double lower = at(low);
    return low == high ? lower : lower + (at(high) - lower) * 0.5;
  };
  return kept_.empty() ? middle(kept_doubles_) : middle(kept_);
}

Outliers OutlierStatistics::result(double massive_ratio) const {
  Outliers outliers;
  outliers.max_abs = has_nan_ ? std::numeric_limits<double>::quiet_NaN() : largest_;
  outliers.median_abs = median();
  const double n = moments_.count, variance = moments_.second / n;
  outliers.kurtosis = ratio(moments_.fourth / n, variance * variance) - 3;
  for (const auto& [value, index] : massive_)
    if (std::abs(value) > massive_ratio * outliers.median_abs)
      outliers.massive.push_back(
          {index / features_ / tokens_, index / features_ % tokens_, index % features_, value});
  return outliers;
}

template void OutlierStatistics::add(std::span<const float>);
template void OutlierStatistics::add(std::span<const double>);
template void OutlierStatistics::add_again(std::span<const float>);
template void OutlierStatistics::add_again(std::span<const double>);

Outliers outliers_of(std::span<const double> x, int64_t tokens, int64_t features,
                     double massive_absolute, double massive_ratio) {
  OutlierStatistics statistics(tokens, features, static_cast<int64_t>(x.size()), massive_absolute);
  statistics.add(x);
  return statistics.result(massive_ratio);
}

}  // namespace weir
