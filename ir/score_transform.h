#pragma once
// What is done to the product of a query and a key before a normaliser sees it as a score: it is
// scaled, perhaps capped, and hidden where the causal mask says so. The interpreter, the
// decomposition and the kernels each have one place that applies it and one that applies its
// derivative to gradients; what else may be done to scores (a bias, a window) belongs there, with
// its attributes here.
#include "ir/attrs.h"

namespace weir {

/// Bounds of a cap of scores or logits: its quotients stay within f32.
constexpr double kLeastCap = 1e-4, kMostCap = 1e6;

struct ScoreTransform {
  bool causal;   ///< query t sees keys 0 .. t, else all
  double scale;  ///< a score is scale times a product, and its derivative this scale
  double cap;    ///< if not 0, a score is cap tanh(scale product / cap)
  /// Where the scale is applied: keys are multiplied by `keys_scale` before the product with
  /// queries, differences of products by `difference_scale` behind it. The second one is positive,
  /// so that the largest product is the largest score, and not so small that it is lost in f32.
  double keys_scale, difference_scale;
  /// With a cap, what is handed on as a score is tanh(tanh_scale product), whose scale is the cap.
  double tanh_scale;

  bool operator==(const ScoreTransform&) const = default;
};

/// Of an attention node; what has no `causal` has no mask.
ScoreTransform score_transform(const Attrs& attrs);

}  // namespace weir
