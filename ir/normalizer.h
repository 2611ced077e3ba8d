#pragma once
// How a row of attention scores becomes weights. Every normaliser here is of the form
//
//   a[t,s] = exp(score[t,s] - reference[t]) / divisor[t],  sum[t] = sum_s exp(score - reference)
//
// so gradients share one formula. An attention hands on the reference and the sum of its rows
// (result `rows`), of which the divisor is a function, and weights are computed from them again.
// It hands on the two and not their combination lse = reference + log(divisor): beside a score of
// 10^6 that is rounded to 0.06, and so are the weights computed from it. The difference of score
// and reference is exact where a weight is not tiny, since both come from the same chain of
// multiplications and additions and are not scaled yet. So `rows` holds the reference unscaled.
//
// A further normaliser is a row of the table in normalizer.cpp, its slots in
// codegen/attention/normalizer, and its definition in interpret/attention and
// passes/decompose_attention.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/attrs.h"

namespace weir {

/// `softmax`: the divisor is the sum, the reference the largest score. `softmax_1`: softmax with
/// one more score of zero that has no value, so that a head can give its weight to nothing; the
/// divisor is sum + exp(-reference), and the reference at least the lowest finite f32.
enum class AttentionNormalizer : uint8_t { softmax, softmax_1 };

/// The attribute of attention nodes; absent for softmax.
inline constexpr std::string_view kNormalizer = "normalizer";

struct NormalizerInfo {
  AttentionNormalizer normalizer;
  const char* name;      ///< in programs, options and records
  bool rows_sum_to_one;  ///< else statistics use a / sum_s a, and the row sum is one of them
  const char* meaning;
};

const NormalizerInfo& info(AttentionNormalizer normalizer);
inline const char* normalizer_name(AttentionNormalizer n) { return info(n).name; }
const std::vector<AttentionNormalizer>& all_normalizers();
/// By name, '_' counting as '-'; a user error that lists the names, nearest first, if it is none.
AttentionNormalizer parse_normalizer(const std::string& text);

/// Where attention's factor of scores is applied: keys are multiplied by `keys` before the product
/// with queries, differences of products by `difference` behind it. The second one is positive, so
/// that the largest product is the largest score, and not so small that it is lost in f32.
struct ScoreScale {
  double keys, difference;
};
ScoreScale score_scale(const Attrs& attrs);

/// Of an attention node.
AttentionNormalizer normalizer_of(const Attrs& attrs);
void set_normalizer(Attrs& attrs, AttentionNormalizer normalizer);

}  // namespace weir
