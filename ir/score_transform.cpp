#include "ir/score_transform.h"

namespace weir {

ScoreTransform score_transform(const Attrs& attrs) {
  const double scale = attrs.get_float("scale");
  const bool causal = attrs.has("causal") && attrs.get_bool("causal");
  constexpr double kSmallest = 0x1p-100;
  if (scale >= kSmallest) return {causal, scale, 1, scale};
  return {causal, scale, scale, 1};
}

}  // namespace weir
