#pragma once
// Outliers of a layer's residual stream - largest and median size, kurtosis, massive activations -
// from parts that come one after another, in bounded memory and exactly.
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "runtime/threads.h"

namespace weir {

/// One entry of x[B,T,D].
struct MassiveActivation {
  int64_t sequence = 0, token = 0, feature = 0;
  double value = 0;
};

/// A feature that is among the `residual_sink_top` largest |x| on more than a share
/// `residual_sink_share` of all tokens: a fixed dimension that is always large, apart from massive
/// activations, which belong to a token ("residual sinks" of arXiv 2601.22966).
struct ResidualSink {
  int64_t feature = 0;
  double share = 0;  ///< of tokens
};
inline constexpr size_t residual_sink_top = 3;
inline constexpr double residual_sink_share = 0.9;

struct Outliers {
  double max_abs = 0, median_abs = 0;
  double kurtosis = 0;  ///< excess kurtosis by population moments
  /// Mean over tokens of relu(mean(x^4) / std(x)^4 - 3) over features: the fourth moment is not
  /// centred, the deviation is, and is unbiased (Outlier-Safe Pre-Training, arXiv 2506.19697).
  double token_kurtosis = 0;
  std::vector<ResidualSink> residual_sinks = {};  ///< largest share first
  /// Larger than both thresholds, largest first, at most `most_massive`.
  std::vector<MassiveActivation> massive;
};
inline constexpr size_t most_massive = 16;

/// Collects x[B,T,D] (elements float or double) in parts of whole sequences, in order.
///
/// The exact median needs no copy of x: elements are counted by the leading bits of their size, and
/// those are kept that lie around the median of the first part. If the median of all turns out to
/// lie elsewhere - sequences that differ very much - `needs_second_pass` says so, and the parts are
/// given again to `add_again`.
class OutlierStatistics {
 public:
  /// `total`: elements of all parts together. `massive_absolute`: as in the record's settings.
  /// Where the parts cannot be given a second time, all elements of several parts are kept.
  OutlierStatistics(int64_t tokens, int64_t features, int64_t total, double massive_absolute,
                    bool may_come_again = true);

  /// The result is the same for any number of workers.
  template <typename T>
  void add(std::span<const T> part, const Workers& workers);
  bool needs_second_pass() const;
  /// Whether `needs_second_pass` was true when the second pass began.
  bool misses_median() const { return second_pass_ || needs_second_pass(); }
  template <typename T>
  void add_again(std::span<const T> part, const Workers& workers);

  /// `massive_ratio`: a massive activation is larger than this times the median.
  Outliers result(double massive_ratio) const;

  /// Bytes that one such object needs at most, unless the parts differ very much. `keeps_all`: it
  /// gets several parts that cannot be given a second time.
  static int64_t bytes(int64_t total, bool keeps_all = false);

 private:
  struct Moments {
    double count = 0, mean = 0, second = 0, third = 0, fourth = 0;  ///< sums of central powers
  };
  template <typename T>
  static Moments moments_of(std::span<const T> part);
  void join(const Moments& part);
  /// What is counted of a chunk of elements.
  struct Chunk {
    Moments moments;
    double largest = 0;
    bool has_nan = false;
  };
  /// Of one token: the features with the largest |x|, and its term of the kurtosis over tokens.
  struct Token {
    std::array<int64_t, residual_sink_top> largest;
    double kurtosis;
  };
  template <typename T>
  static Token token_of(std::span<const T> features);
  template <typename T>
  void add_tokens(std::span<const T> part, const Workers& workers);
  template <typename T>
  static Chunk count(std::span<const T> chunk, std::vector<uint32_t>& counts);
  template <typename T>
  void find_massive(std::span<const T> chunk, int64_t first);
  template <typename T>
  void keep(std::span<const T> part, const Workers& workers);
  template <typename T>
  void open_first_window();
  std::pair<int64_t, int64_t> middle_ranks() const;
  int64_t bin_of_rank(int64_t rank) const;
  void open_window(int64_t first_rank, int64_t last_rank);
  double median() const;

  int64_t tokens_, features_, total_, seen_ = 0;
  double massive_absolute_, largest_ = 0;
  bool may_come_again_, has_nan_ = false, second_pass_ = false;
  Moments moments_;
  std::vector<int64_t> among_largest_;               // by feature: of how many tokens
  double token_kurtosis_ = 0;                        // sum over tokens
  std::vector<std::pair<double, int64_t>> massive_;  // value and index, largest first
  std::vector<uint32_t> counts_;                     // by leading bits of |x|
  int64_t first_bin_ = 0, last_bin_ = -1;            // whose elements are kept
  std::vector<float> kept_;
  std::vector<double> kept_doubles_;  // of parts of doubles
};

extern template void OutlierStatistics::add(std::span<const float>, const Workers&);
extern template void OutlierStatistics::add(std::span<const double>, const Workers&);
extern template void OutlierStatistics::add_again(std::span<const float>, const Workers&);
extern template void OutlierStatistics::add_again(std::span<const double>, const Workers&);

/// Of an array in memory as a whole.
Outliers outliers_of(std::span<const double> x, int64_t tokens, int64_t features,
                     double massive_absolute, double massive_ratio);

}  // namespace weir
