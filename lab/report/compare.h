#pragma once
// Arms compared over seeds: from folders of runs and sweeps to the record `weir.compare/1`
// (docs/compare.md), of which table, CSV and page are made.
#include <optional>
#include <string>
#include <vector>

#include "lab/report/onset_settings.h"
#include "lab/report/paired_bootstrap.h"

namespace weir {

struct CompareOptions {
  BootstrapSettings bootstrap = {};
  OnsetSettings onset = {};
  /// The loss at which arms are compared; the lowest that all of them reach, if not given.
  std::optional<double> loss = {};
  std::string command = {};  ///< how it was called, for the record
};

/// The record as one line of JSON. Everything is computed from the metrics.jsonl of arms. Errors of
/// read_comparison (compare_data.h); a user error where nothing is left to compare.
std::string compare_record(const std::vector<std::string>& folders, const CompareOptions& options);

/// For a terminal, from a record.
std::string compare_table(const std::string& record);
/// A row for every replicate, measured step and quantity, and for its value at equal loss:
/// arm, the keys of the grid, seed, run, at (step or equal_loss), step, tokens, quantity, value.
/// Numbers have all their digits; what is not a number is an empty field.
std::string compare_csv(const std::string& record);

/// The report, one HTML file that opens offline.
std::string compare_page(const std::string& record);
/// Writes it, whole or not at all. User error if the file cannot be written.
void write_compare_report(const std::string& html, const std::string& record);

}  // namespace weir
