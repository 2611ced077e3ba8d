#pragma once
// The report of a measurement: one self-contained HTML file that opens offline.
#include <string>
#include <utility>
#include <vector>

#include "lab/measure/attention_map.h"

namespace weir {

struct MeasureReport {
  std::string record;  ///< of `weir.measure/1`
  std::string command;
  std::vector<std::string> token_texts;  ///< of the batch, [B T]
  std::vector<AttentionMap> maps;
};

/// Writes the report, whole or not at all. User error if the file cannot be written.
void write_measure_report(const std::string& html, const MeasureReport& report);
std::string measure_page(const MeasureReport& report);

/// Bytes that making a report takes beside the record, with so many attention maps.
int64_t measure_report_bytes(int64_t batch, int64_t length, int64_t maps);

/// The head with the largest sink mass of a record and the one with the least, as (layer, head):
/// `kHeadsShown` at most.
inline constexpr int64_t kHeadsShown = 2;
std::vector<std::pair<int64_t, int64_t>> heads_to_show(const std::string& record);

}  // namespace weir
