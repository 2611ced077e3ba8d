#pragma once
// One row an arm, and the comparison of arms in words: both computed from the same numbers, so that
// terminal, table and prose of a report cannot disagree.
#include <limits>
#include <string>
#include <vector>

#include "lab/report/report_data.h"

namespace weir {

/// A quantity at the last measured step and its medians over measured steps: all of them, and the
/// late ones (steps in the second half of the training; all when fewer than 3 lie there).
struct OverSteps {
  double first, last, median, late_median;
};

struct ArmSummary {
  std::string name;
  double final_loss;   ///< mean over the last 5 % of the training steps
  size_t final_steps;  ///< how many those are
  OverSteps sink_score, sink_score_max, sink_mass;  ///< mean, maximum, mean over layers and heads
  double sink_score_null, sink_mass_null;           ///< uniform causal attention
  OverSteps gradient_sink_ratio;                    ///< median over layers
  OverSteps norm_ratio;                             ///< resid_post, largest over layers
  OverSteps value_ratio, value_scaled_ratio;        ///< median over layers; NaN without V-scale
  /// Where uniform attention exceeds the threshold of a sink, the sentence that says so; else "".
  std::string rate_caveat;
  int64_t last_step;
  size_t measured_steps, late_steps;
};

std::vector<ArmSummary> summarise(const ReportRun& run);

/// How an arm's quantity compares with the first arm's.
struct Comparison {
  enum class Verdict { unchanged, lowered, raised, unclear, incomparable };
  std::string quantity;
  double base_last, arm_last, base_median, arm_median;  ///< medians are the late ones
  Verdict verdict;
  std::string words;  ///< "lowered (×0.310 last, ×0.400 median)"
};

/// A factor within 1/band..band counts as unchanged; a change needs last step and median to agree.
inline constexpr double comparison_band = 1.25;
/// Losses within this many nats count as equal.
inline constexpr double loss_band = 0.02;

std::vector<Comparison> compare(const ArmSummary& base, const ArmSummary& arm);

/// "lowered a and b, left c where it was, d is unclear": one sentence from the verdicts.
std::string comparison_sentence(const std::vector<Comparison>& comparisons);

/// Three significant digits; "NaN", "Infinity", "-Infinity" for non-numbers.
std::string short_number(double value);

/// Three decimals: losses differ in the third digit where other quantities differ in the first.
std::string loss_text(double nats);

/// Columns of the summary: header and one row of texts an arm.
struct SummaryColumns {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};
/// For a terminal, the first column to the left.
std::string columns_table(const SummaryColumns& columns);
/// A sentence on a line of its own; "" for none.
std::string with_line_end(const std::string& sentence);
SummaryColumns summary_columns(const std::vector<ArmSummary>& arms);

/// NumPy's median; a NaN among the values gives NaN, no values NaN.
double median_of(std::vector<double> values);

}  // namespace weir
