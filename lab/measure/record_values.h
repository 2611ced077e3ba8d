#pragma once
// What a metric record takes of the values of its probes, as they come: of each layer's residual
// stream only its outliers, found in place, of everything else a copy.
#include <map>
#include <set>
#include <string>

#include "engine/probe_value.h"
#include "lab/measure/metrics.h"
#include "lab/measure/outliers.h"
#include "runtime/threads.h"

namespace weir {

class RecordValues {
 public:
  struct Options {
    bool record = true;  ///< whether one is to be written; else all values are kept
    std::set<std::string> kept =
        {};                       ///< ids whose values are kept whatever the record does with them
    bool may_come_again = false;  ///< whether the batch can be run a second time
    int threads = 1;
    MetricPlan plan = {};  ///< what the record leaves out
  };

  RecordValues(const MeasuredModel& model, const MetricSettings& settings, int64_t batch,
               int64_t length, Options options);

  /// A probe's value, or the next part of it along the batch.
  void add(const ProbeValue& value);
  /// Whether the batch has to be run once more, with every value given to `add_again`; never
  /// unless `may_come_again`.
  bool needs_second_pass() const;
  void add_again(const ProbeValue& value);

  /// Of those kept, by id.
  Tensors& values() { return values_; }
  std::string record(const MeasuredModel& model, const Measurement& measurement);

  /// Bytes that the streams of a batch need, unless sequences differ very much, and those of the
  /// record. `kept_parts`: the batch comes in parts that cannot come again, so that all is kept.
  static int64_t bytes(const MeasuredModel& model, int64_t batch, int64_t length,
                       bool kept_parts = false);

 private:
  MetricSettings settings_;
  Options options_;
  Workers workers_;
  std::map<std::string, OutlierStatistics> streams_;
  Tensors values_;
};

}  // namespace weir
