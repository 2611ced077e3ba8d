#pragma once
// The keys of a layer in the record `weir.measure/1`, by what they hold, for what reads all of a
// kind. metrics.cpp writes them; a test compares.
#include <array>
#include <cstdint>

namespace weir {

enum class RecordKind : uint8_t {
  number,
  heads,   ///< [heads]
  tokens,  ///< [length]
  other    ///< an object, or of use by itself only
};

struct RecordKey {
  const char* name;
  RecordKind kind;
  bool optional = false;
};

/// In the record's order. Optional are those that records of earlier versions lack, and row_sum.
inline constexpr std::array kLayerKeys = {
    RecordKey{"layer", RecordKind::other},
    RecordKey{"sink_score", RecordKind::heads},
    RecordKey{"sink_rate", RecordKind::number},
    RecordKey{"sink_mass", RecordKind::heads},
    RecordKey{"sink_second_moment", RecordKind::heads},
    RecordKey{"attention_entropy", RecordKind::heads},
    RecordKey{"head_gate", RecordKind::heads, true},
    RecordKey{"head_gate_entropy", RecordKind::number, true},
    RecordKey{"row_sum", RecordKind::heads, true},
    RecordKey{"sink_score_null", RecordKind::number},
    RecordKey{"sink_mass_null", RecordKind::number},
    RecordKey{"sink_rate_null", RecordKind::other},
    RecordKey{"norm", RecordKind::other},
    RecordKey{"value_norm_by_head", RecordKind::other},
    RecordKey{"value_grad_norm_by_head", RecordKind::other},
    RecordKey{"sink_token_max", RecordKind::other},
    RecordKey{"others", RecordKind::other},
    RecordKey{"grad_norm", RecordKind::other},
    RecordKey{"gradient_sink_ratio", RecordKind::number},
    RecordKey{"bloat_attn", RecordKind::tokens},
    RecordKey{"compress_attn", RecordKind::tokens},
    RecordKey{"change_attn", RecordKind::tokens},
    RecordKey{"bloat_mlp", RecordKind::tokens},
    RecordKey{"compress_mlp", RecordKind::tokens},
    RecordKey{"change_mlp", RecordKind::tokens},
    RecordKey{"resid_post_max_abs", RecordKind::number},
    RecordKey{"resid_post_median_abs", RecordKind::number},
    RecordKey{"resid_post_kurtosis", RecordKind::number},
    RecordKey{"resid_post_token_kurtosis", RecordKind::number, true},
    RecordKey{"residual_sinks", RecordKind::other, true},
    RecordKey{"massive_activations", RecordKind::other},
    RecordKey{"mlp_token_peak_ratio", RecordKind::number, true},
    RecordKey{"outlier_token_count", RecordKind::other, true},
    RecordKey{"outlier_tokens", RecordKind::other, true},
};

/// Ratios of gradients across a branch: the record has `<ratio>_<branch>` of attn and mlp.
inline constexpr std::array kBranchRatios = {"bloat", "compress", "change"};

/// The sink token is compared with the others of these tokens.
inline constexpr struct {
  int64_t first = 1, last = 15;
} kOtherTokens;

}  // namespace weir
