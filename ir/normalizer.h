#pragma once
// How a row of attention scores becomes weights. Every normaliser is of the form
//
//   a[t,s] = numerator(score[t,s]) / divisor[t],  the divisor a function of sum_s term(score[t,s])
//
// or of how many keys the query sees. Numerators and terms are taken relative to a reference of the
// row, as exp(score - reference), so that they stay in range. An attention hands on the reference
// and the sums of its rows (result `rows`), from which weights are computed again. It does not hand
// on a combination such as the log-sum-exp reference + log(divisor): beside a score of 10^6 that is
// rounded to 0.06, and so are the weights computed from it. The difference of score and reference
// is exact where a weight is not tiny, since both come from the same chain of multiplications and
// additions and are not scaled yet. So `rows` holds the reference unscaled.
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
///
/// `softpick` (Zuhri et al., arXiv 2504.20966): numerators max(exp(s - m) - exp(-m), 0), terms
/// |exp(s - m) - exp(-m)|, and the divisor their sum + 1e-8 exp(-m). The reference m is the largest
/// score, but at least 0: exp(-m) then stays in range where all scores are very negative, which
/// gives a row of zeros. (The authors' code takes m below 0 there, and adds 1e-8 itself; that
/// changes a weight by 1e-8 of itself at most.)
///
/// `relu`: the positive part of a score, divided by the number n of keys that the query sees, which
/// with a causal mask is its index + 1; the reference is 0. `sigmoid` (Ramapuram et al., arXiv
/// 2409.04431): sigmoid(s - log n), whose bias makes rows of scores near 0 sum to about one. Their
/// n is the length of the sequence; here it is the number of keys that the query sees, as for relu,
/// so that with a causal mask a token does not depend on how many follow. The reference is log n
/// (not scaled), the divisor 1.
///
/// `sink_logit` and `kv_bias` are softmax with one more key, whose score z is an operand of the
/// attention ([B,H,T], scaled, with no cap) and whose value is zero; the divisor is
/// sum + exp(z - reference). What z is, passes/attention_normalizer.h says: a learned number of the
/// head (as gpt-oss has it), or the score of a learned key, whose learned value is then added to
/// what the attention gives.
///
/// `bayes_softmax` normalises over the keys of all H heads at once (Sagitova, Duranthon, Zdeborova,
/// arXiv 2603.03993; there without the factor H, which keeps the scale of the output here):
///
///   a[h,t,s] = H exp(s[h,t,s] - b[h]) / sum_h' sum_s' exp(s[h',t,s'] - b[h']).
///
/// With p the softmax of a head and lse the logarithm of its row's sum, that is g[h,t] p[h,t,s],
/// where g is H times the softmax over heads of lse[h,t] - b[h]. No attention node computes it:
/// passes/attention_normalizer multiplies the output of softmax by the gate g of op
/// attention_head_gate. Its rows are those of softmax with the gate behind them; the divisor is
/// sum / g.
///
/// A row whose scores are all minus infinity gets weights of zero, in softmax too.
enum class AttentionNormalizer : uint8_t {
#define NORMALIZER(id, ...) id,
#include "ir/normalizers.def"
};

/// Added to softpick's divisor, in units of the exponential of a score of zero.
inline constexpr double kSoftpickEpsilon = 1e-8;

/// What a row hands on beside its reference and its sums.
enum class RowExtra : uint8_t {
  none,
  keys,   ///< how many keys the query sees
  other,  ///< the score of the other key, which the attention takes as its fourth operand
  gate    ///< the factor of the row's weights that depends on the other heads
};

/// The attribute of attention nodes; absent for softmax.
inline constexpr std::string_view kNormalizer = "normalizer";

struct NormalizerInfo {
  AttentionNormalizer normalizer;
  const char* name;      ///< in programs, options and records
  bool rows_sum_to_one;  ///< else statistics use a / sum_s a, and the row sum is one of them
  bool exponential;      ///< dL/dscore is weight (dL/dweight - delta)
  int sums;              ///< that a row hands on (normalizers.def)
  RowExtra extra;        ///< what else it does
  const char* meaning;

  /// A row's numbers in `rows`: its reference, its sums, and the last if there is something else.
  int row_numbers() const { return 1 + sums + (extra == RowExtra::none ? 0 : 1); }
};

const NormalizerInfo& info(AttentionNormalizer normalizer);
/// Whether an attention takes the score of another key, [B,H,T], as its fourth operand.
inline bool takes_other_score(AttentionNormalizer n) { return info(n).extra == RowExtra::other; }
/// Whether it is made of all heads, so that no attention node computes it by itself.
inline bool is_across_heads(AttentionNormalizer n) { return info(n).extra == RowExtra::gate; }
/// Whether it brings states to a model (ir/rewrite_state.h).
inline bool brings_states(AttentionNormalizer n) {
  return takes_other_score(n) || is_across_heads(n);
}
inline const char* normalizer_name(AttentionNormalizer n) { return info(n).name; }
const std::vector<AttentionNormalizer>& all_normalizers();
/// Those that an attention node computes, head by head.
const std::vector<AttentionNormalizer>& head_normalizers();
/// By name, '_' counting as '-'; a user error that lists the names, nearest first, if it is none.
AttentionNormalizer parse_normalizer(const std::string& text);

/// Of an attention node.
AttentionNormalizer normalizer_of(const Attrs& attrs);
void set_normalizer(Attrs& attrs, AttentionNormalizer normalizer);

}  // namespace weir
