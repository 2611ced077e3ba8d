#pragma once
// How a row of attention scores becomes weights. Every normaliser here is of the form
// a[t,s] = exp(score[t,s] - lse[t]), so it is known by its lse and gradients share one formula. A
// further one is a row of the table in normalizer.cpp, its slots in codegen/attention_normalizer,
// and its definition in codegen/interpret_attention and passes/decompose_attention.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/attrs.h"

namespace weir {

/// `softmax`: lse = log sum_s exp(score). `softmax_1`: lse = log(1 + sum_s exp(score)), softmax
/// with one more score of zero that has no value, so that a head can give its weight to nothing.
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

/// Of an attention node.
AttentionNormalizer normalizer_of(const Attrs& attrs);
void set_normalizer(Attrs& attrs, AttentionNormalizer normalizer);

}  // namespace weir
