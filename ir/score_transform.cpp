#include "ir/score_transform.h"

namespace weir {

ScoreTransform score_transform(const Attrs& attrs) {
  const double scale = attrs.get_float("scale");
  const bool causal = attrs.has("causal") && attrs.get_bool("causal");
  const double cap = attrs.has("cap") ? attrs.get_float("cap") : 0;
  if (cap != 0) return {causal, scale, cap, 1, cap, scale / cap};
  constexpr double kSmallest = 0x1p-100;
  if (scale >= kSmallest) return {causal, scale, 0, 1, scale, 0};
  return {causal, scale, 0, scale, 1, 0};
}

}  // namespace weir
