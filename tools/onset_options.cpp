#include "tools/onset_options.h"

namespace weir {

void add_onset_options(OptionTable& table, OnsetSettings& settings) {
  constexpr double largest = 1e30;
  table
      .add("--onset-sink", &settings.sink_score, within(0, 1),
           "onset of the attention sink: a head's sink score above this")
      .with_default();
  table
      .add("--onset-value", &settings.value_ratio, within(0, largest),
           "of value drain: norm of the sink's value vector over that of others below this")
      .with_default();
  table
      .add("--onset-gradient", &settings.gradient_sink_ratio, within(0, largest),
           "of the gradient sink: gradient-sink ratio of a layer above this")
      .with_default();
  table
      .add("--onset-norm", &settings.norm_ratio, within(0, largest),
           "of norm growth: norm of the sink token behind a layer over that of others above this")
      .with_default();
  table
      .add("--onset-measurements", &settings.measurements, within(1, 1e6),
           "measured steps for which it has to stay beyond")
      .with_default();
}

}  // namespace weir
