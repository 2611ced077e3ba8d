#include "lab/measure/outliers.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "lab/measure/statistics.h"
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
                                     double massive_absolute, bool may_come_again)
    : tokens_(tokens),
      features_(features),
      total_(total),
      massive_absolute_(massive_absolute),
      may_come_again_(may_come_again),
      among_largest_(static_cast<size_t>(features)),
      counts_(kBins) {
  WEIR_CHECK(total > 0 && total < int64_t{1} << 32, "outliers of {} elements", total);
}

int64_t OutlierStatistics::bytes(int64_t total, bool keeps_all) {
  // All sizes, and a copy of them in which the median is looked for.
  if (keeps_all) return kBins * 4 + 2 * total * 4;
  return kBins * 4 + static_cast<int64_t>(3 * kWindow * static_cast<double>(total)) * 4;
}

template <typename T>
OutlierStatistics::Chunk OutlierStatistics::count(std::span<const T> chunk,
                                                  std::vector<uint32_t>& counts) {
  Chunk result;
  T largest = 0;
  for (T x : chunk) {
    const T size = std::abs(x);
    if (std::isnan(size)) {
      result.has_nan = true;
      continue;
    }
    ++counts[static_cast<size_t>(bin_of(size))];
    largest = std::max(largest, size);
  }
  result.largest = static_cast<double>(largest);
  result.moments = moments_of(chunk);
  return result;
}

template <typename T>
OutlierStatistics::Token OutlierStatistics::token_of(std::span<const T> features) {
  Token token{};
  token.largest.fill(-1);
  std::array<T, residual_sink_top> sizes;
  sizes.fill(T(-1));
  double sum = 0, fourth = 0;
  for (size_t i = 0; i < features.size(); ++i) {
    const auto x = static_cast<double>(features[i]);
    sum += x;
    fourth += (x * x) * (x * x);
    const T size = std::abs(features[i]);
    if (!(size > sizes.back())) continue;
    size_t place = residual_sink_top - 1;
    for (; place > 0 && size > sizes[place - 1]; --place) {
      sizes[place] = sizes[place - 1];
      token.largest[place] = token.largest[place - 1];
    }
    sizes[place] = size;
    token.largest[place] = static_cast<int64_t>(i);
  }
  const auto n = static_cast<double>(features.size());
  // In a second pass: from sums of squares a deviation small beside the mean would be lost.
  const double mean = sum / n;
  double spread = 0;
  for (T feature : features) {
    const double x = static_cast<double>(feature) - mean;
    spread += x * x;
  }
  const double variance = spread / (n - 1);
  const double kurtosis = ratio(fourth / n, variance * variance) - 3;
  token.kurtosis = std::isnan(kurtosis) ? kurtosis : std::max(kurtosis, 0.0);
  return token;
}

template <typename T>
void OutlierStatistics::add_tokens(std::span<const T> part, const Workers& workers) {
  const auto width = static_cast<size_t>(features_);
  std::vector<Token> tokens(part.size() / width);
  workers.parallel_tiles(static_cast<int64_t>(tokens.size()), [&](int64_t begin, int64_t end, int) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      tokens[i] = token_of(part.subspan(i * width, width));
  });
  // In order, so that the sum rounds alike however many worked.
  for (const Token& token : tokens) {
    token_kurtosis_ += token.kurtosis;
    for (int64_t feature : token.largest)
      if (feature >= 0) ++among_largest_[static_cast<size_t>(feature)];
  }
}

template <typename T>
void OutlierStatistics::add(std::span<const T> part, const Workers& workers) {
  const bool first = seen_ == 0;
  add_tokens(part, workers);
  const auto chunk_at = [&](size_t i) {
    return part.subspan(i * kChunk, std::min(kChunk, part.size() - i * kChunk));
  };
  std::vector<Chunk> chunks((part.size() + kChunk - 1) / kChunk);
  std::vector<std::vector<uint32_t>> counts(static_cast<size_t>(workers.count()));
  workers.parallel_tiles(
      static_cast<int64_t>(chunks.size()), [&](int64_t begin, int64_t end, int worker) {
        auto& own = counts[static_cast<size_t>(worker)];
        own.resize(kBins);
        for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
          chunks[i] = count(chunk_at(i), own);
      });
  for (const auto& own : counts)
    for (size_t bin = 0; bin < own.size(); ++bin) counts_[bin] += own[bin];
  // In the order of the elements, so that sums round alike however many worked.
  for (size_t i = 0; i < chunks.size(); ++i) {
    has_nan_ |= chunks[i].has_nan;
    largest_ = std::max(largest_, chunks[i].largest);
    if (chunks[i].largest > massive_absolute_)
      find_massive(chunk_at(i), seen_ + static_cast<int64_t>(i * kChunk));
    join(chunks[i].moments);
  }
  seen_ += static_cast<int64_t>(part.size());
  if (has_nan_) return;
  if (first) open_first_window<T>();
  keep(part, workers);
}

template <typename T>
void OutlierStatistics::open_first_window() {
  if (seen_ == total_) {
    const auto [low, high] = middle_ranks();
    return open_window(low, high);
  }
  if (may_come_again_) {
    const auto n = static_cast<double>(seen_);
    open_window(static_cast<int64_t>((0.5 - kWindow) * n),
                static_cast<int64_t>((0.5 + kWindow) * n));
  } else {
    first_bin_ = 0, last_bin_ = kBins - 1;
  }
  const double share = may_come_again_ ? 2.5 * kWindow : 1;
  if (std::is_same_v<T, float>)
    kept_.reserve(static_cast<size_t>(share * static_cast<double>(total_)));
}

template <typename T>
void OutlierStatistics::find_massive(std::span<const T> chunk, int64_t first) {
  for (size_t i = 0; i < chunk.size(); ++i) {
    const double size = std::abs(static_cast<double>(chunk[i]));
    if (!(size > massive_absolute_)) continue;
    if (massive_.size() == most_massive && size <= std::abs(massive_.back().first)) continue;
    const auto at = std::upper_bound(
        massive_.begin(), massive_.end(), size,
        [](double given, const auto& entry) { return given > std::abs(entry.first); });
    massive_.insert(at, {static_cast<double>(chunk[i]), first + static_cast<int64_t>(i)});
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
void OutlierStatistics::keep(std::span<const T> part, const Workers& workers) {
  const auto width = static_cast<uint64_t>(last_bin_ - first_bin_);
  std::vector<std::vector<T>> kept(static_cast<size_t>(workers.count()));
  const auto chunks = static_cast<int64_t>((part.size() + kChunk - 1) / kChunk);
  workers.parallel_tiles(chunks, [&](int64_t begin, int64_t end, int worker) {
    auto& own = kept[static_cast<size_t>(worker)];
    const auto first = static_cast<size_t>(begin) * kChunk;
    for (T x :
         part.subspan(first, std::min(static_cast<size_t>(end) * kChunk, part.size()) - first)) {
      const T size = std::abs(x);
      // One comparison, nearly always true: two would be a coin toss each.
      if (static_cast<uint64_t>(bin_of(size) - first_bin_) <= width) own.push_back(size);
    }
  });
  // Their order does not matter: all that is asked of them is what stands at a rank.
  for (const auto& own : kept) {
    if constexpr (std::is_same_v<T, float>)
      kept_.insert(kept_.end(), own.begin(), own.end());
    else
      kept_doubles_.insert(kept_doubles_.end(), own.begin(), own.end());
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
void OutlierStatistics::add_again(std::span<const T> part, const Workers& workers) {
  if (needs_second_pass()) {
    second_pass_ = true;
    const auto [low, high] = middle_ranks();
    open_window(low, high);
  }
  keep(part, workers);
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
  const double tokens = n / static_cast<double>(features_);
  outliers.token_kurtosis = token_kurtosis_ / tokens;
  for (size_t i = 0; i < among_largest_.size(); ++i)
    if (const double share = static_cast<double>(among_largest_[i]) / tokens;
        share > residual_sink_share)
      outliers.residual_sinks.push_back({static_cast<int64_t>(i), share});
  std::stable_sort(outliers.residual_sinks.begin(), outliers.residual_sinks.end(),
                   [](const auto& a, const auto& b) { return a.share > b.share; });
  for (const auto& [value, index] : massive_)
    if (std::abs(value) > massive_ratio * outliers.median_abs)
      outliers.massive.push_back(
          {index / features_ / tokens_, index / features_ % tokens_, index % features_, value});
  return outliers;
}

template void OutlierStatistics::add(std::span<const float>, const Workers&);
template void OutlierStatistics::add(std::span<const double>, const Workers&);
template void OutlierStatistics::add_again(std::span<const float>, const Workers&);
template void OutlierStatistics::add_again(std::span<const double>, const Workers&);

Outliers outliers_of(std::span<const double> x, int64_t tokens, int64_t features,
                     double massive_absolute, double massive_ratio) {
  OutlierStatistics statistics(tokens, features, static_cast<int64_t>(x.size()), massive_absolute);
  statistics.add(x, Workers(1));
  return statistics.result(massive_ratio);
}

}  // namespace weir
