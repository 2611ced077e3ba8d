#pragma once
// The sections of a run's report on when things happen: onsets, and the growth of activations.
#include <nlohmann/json.hpp>
#include <string>

#include "lab/report/report_data.h"
#include "lab/report/timeline.h"

namespace weir {

/// {"settings", "arms": [{"events": timeline_json, "growth": [fit by layer]}]} for page/report.js.
nlohmann::ordered_json timeline_data(const ReportRun& run, const OnsetSettings& settings);

/// The sections "timeline" and "growth" with their tables.
std::string timeline_section(const ReportRun& run, const OnsetSettings& settings);

}  // namespace weir
