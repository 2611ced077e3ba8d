#pragma once
// How a row of attention scores becomes weights. Every normaliser is of the form
//
//   a[t,s] = numerator(score[t,s]) / divisor[t],  the divisor a function of sum_s term(score[t,s])
//
// with both taken relative to a reference of the row, as exp(score - reference), so that they stay
// in range. An attention hands on the reference and the sums of its rows (result `rows`), from
// which weights are computed again. It does not hand on a combination such as the log-sum-exp
// reference + log(divisor): beside a score of 10^6 that is rounded to 0.06, and so are the weights
// computed from it. The difference of score and reference is exact where a weight is not tiny,
// since both come from the same chain of multiplications and additions and are not scaled yet. So
// `rows` holds the reference unscaled.
//
// A further normaliser is a row of normalizers.def, its definition in ir/normalizer_definition.h
// and its code in codegen/attention/normalizer.cpp: no other file knows one from another.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/attrs.h"

namespace weir {

/// `softmax`: the divisor is the sum, the reference the largest score. `softmax_1`: softmax with
/// one more score of zero that has no value, so that a head can give its weight to nothing; the
/// divisor is sum + exp(-reference), and the reference at least the lowest finite f32.
enum class AttentionNormalizer : uint8_t {
#define NORMALIZER(id, ...) id,
#include "ir/normalizers.def"
};

/// The attribute of attention nodes; absent for softmax.
inline constexpr std::string_view kNormalizer = "normalizer";

struct NormalizerInfo {
  AttentionNormalizer normalizer;
  const char* name;      ///< in programs, options and records
  bool rows_sum_to_one;  ///< else statistics use a / sum_s a, and the row sum is one of them
  bool exponential;      ///< dL/dscore is weight (dL/dweight - delta)
  int sums;              ///< that a row hands on (normalizers.def)
  const char* meaning;

  /// A row's numbers in `rows`: its reference and its sums.
  int row_numbers() const { return 1 + sums; }
};

const NormalizerInfo& info(AttentionNormalizer normalizer);
inline const char* normalizer_name(AttentionNormalizer n) { return info(n).name; }
const std::vector<AttentionNormalizer>& all_normalizers();
/// By name, '_' counting as '-'; a user error that lists the names, nearest first, if it is none.
AttentionNormalizer parse_normalizer(const std::string& text);

/// Of an attention node.
AttentionNormalizer normalizer_of(const Attrs& attrs);
void set_normalizer(Attrs& attrs, AttentionNormalizer normalizer);

}  // namespace weir
