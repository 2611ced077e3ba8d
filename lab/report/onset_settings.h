#pragma once
// When something counts as begun in a training.
#include <cstdint>

namespace weir {

/// Thresholds of four quantities, and for how many measurements one has to stay beyond its own.
struct OnsetSettings {
  double sink_score = 0.3;         ///< attention sink: sink score of a head above it
  double value_ratio = 0.5;        ///< value drain: value norm, sink token over others, below it
  double gradient_sink_ratio = 5;  ///< gradient sink: R_GS of a layer above it
  double norm_ratio = 3;           ///< norm growth: norm behind a layer, sink over others, above it
  int64_t measurements = 3;
};

}  // namespace weir
