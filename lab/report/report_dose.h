#pragma once
// Dose and response: of a run whose arms give one key different numbers, what the last measured
// step shows against that number.
#include <string>
#include <vector>

#include "lab/report/report_data.h"
#include "lab/report/report_summary.h"

namespace weir {

struct Dose {
  std::string key;             ///< "sink_gradient.gain"; empty: the run has none
  std::vector<double> values;  ///< of each arm; the configuration's where an arm says nothing
  /// Whether `key` makes the run one of dose and response.
  explicit operator bool() const { return !key.empty(); }
};

/// The first key, in the order of the arms' overrides, that has at least three different numbers
/// over all arms. Seeds are no dose: arms that differ in theirs alone are repetitions.
Dose dose_of(const ReportRun& run);

/// The section of the page with its table, "" without a dose: for each value the mean over its arms
/// at the last measured step, and where there are several the least and the largest.
std::string dose_section(const ReportRun& run, const Dose& dose,
                         const std::vector<ArmSummary>& arms);

}  // namespace weir
