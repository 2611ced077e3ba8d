#pragma once
// What is done to the product of a query and a key before a normaliser sees it as a score: it is
// scaled, and hidden where the causal mask says so. The interpreter, the decomposition and the
// kernels each have one place that applies it and one that applies its derivative to gradients;
// what else may be done to scores (a soft cap, a bias, a window) belongs there, with its attributes
// here.
#include "ir/attrs.h"

namespace weir {

struct ScoreTransform {
  bool causal;   ///< query t sees keys 0 .. t, else all
  double scale;  ///< a score is scale times a product, and its derivative this scale
  /// Where the scale is applied: keys are multiplied by `keys_scale` before the product with
  /// queries, differences of products by `difference_scale` behind it. The second one is positive,
  /// so that the largest product is the largest score, and not so small that it is lost in f32.
  double keys_scale, difference_scale;
};

/// Of an attention node; what has no `causal` has no mask.
ScoreTransform score_transform(const Attrs& attrs);

}  // namespace weir
