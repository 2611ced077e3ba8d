#pragma once
// The numbers of replicates that are compared: one a quantity and measured step, and how they are
// read off at a number of tokens or a loss.
#include <optional>
#include <string>
#include <vector>

#include "lab/report/compare_data.h"

namespace weir {

struct Quantity {
  const char* key;      ///< of records and CSV
  const char* title;    ///< of tables and figures
  const char* meaning;  ///< a sentence
  bool logarithmic;     ///< how a figure draws it
};
/// Loss first; the definitions are those of a run's summary (report_summary.h).
const std::vector<Quantity>& quantities();

/// The curves of a replicate over its measured steps.
struct Curves {
  std::vector<int64_t> steps;
  std::vector<double> tokens;               ///< step times tokens a step
  std::vector<std::vector<double>> values;  ///< [quantity][measured step]; NaN where there is none
};
Curves curves_of(const Replicate& replicate);

/// A place between the measurements `at` and `at` + 1, a part of the way from the first to the
/// second.
struct Between {
  size_t at = 0;
  double part = 0;
};
double value_between(const std::vector<double>& values, const Between& place);

/// Where a number of tokens lies: at a measurement, or linear between the two around it. Nothing
/// beyond the last one.
std::optional<Between> at_tokens(const Curves& curves, double tokens);
/// Where the measured loss is first at most `loss`: linear in the loss between that measurement and
/// the one before it. Nothing if it never is.
std::optional<Between> at_loss(const Curves& curves, double loss);
/// The lowest measured loss.
double lowest_loss(const Curves& curves);

}  // namespace weir
