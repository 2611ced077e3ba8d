#include "lab/report/report_summary.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "lab/report/measure_summary.h"
#include "lab/report/report.h"
#include "lab/report/terminal_table.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {

namespace {

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return values.empty() ? kNaN : sum / static_cast<double>(values.size());
}

double largest_of(const std::vector<double>& values) {
  double result = values.empty() ? kNaN : values[0];
  for (double value : values) {
    if (std::isnan(value)) return kNaN;
    result = std::max(result, value);
  }
  return result;
}

using OverLayers = std::function<double(const std::vector<double>&)>;

OverSteps over_steps(const ReportArm& arm, const std::string& key, const OverLayers& over_layers) {
  std::vector<double> all, late;
  const int64_t end = arm.measured.back().step;
  for (const MeasuredStep& step : arm.measured) {
    const auto found = step.by_layer.find(key);
    const double value = found == step.by_layer.end() ? kNaN : over_layers(found->second);
    all.push_back(value);
    if (2 * step.step >= end) late.push_back(value);
  }
  return {all.front(), all.back(), median_of(all), median_of(late.size() < 3 ? all : late)};
}

size_t late_count(const ReportArm& arm) {
  size_t count = 0;
  for (const MeasuredStep& step : arm.measured) count += 2 * step.step >= arm.measured.back().step;
  return count < 3 ? arm.measured.size() : count;
}

ArmSummary summarise_arm(const ReportArm& arm) {
  ArmSummary result;
  result.name = arm.name;
  const auto losses = arm.training.columns.find("loss");
  std::vector<double> tail;
  if (losses != arm.training.columns.end()) {
    const size_t count = std::max<size_t>(1, losses->second.size() / 20);
    tail.assign(losses->second.end() - static_cast<std::ptrdiff_t>(count), losses->second.end());
  }
  result.final_steps = tail.size();
  result.final_loss = tail.empty() ? arm.measured.back().loss : mean_of(tail);
  result.sink_score = over_steps(arm, "sink_score", mean_of);
  result.sink_score_max = over_steps(arm, "sink_score_max", largest_of);
  result.sink_mass = over_steps(arm, "sink_mass", mean_of);
  result.sink_score_null = mean_of(arm.measured.back().by_layer.at("sink_score_null"));
  result.sink_mass_null = mean_of(arm.measured.back().by_layer.at("sink_mass_null"));
  result.rate_caveat =
      sink_rate_caveat(arm.settings.at("sink_threshold").get<double>(), result.sink_score_null,
                       std::min(arm.settings.value("sink_window", int64_t{64}),
                                arm.tokens.at("length").get<int64_t>()));
  result.gradient_sink_ratio = over_steps(arm, "gradient_sink_ratio", median_of);
  result.norm_ratio = over_steps(arm, "norm.resid_post.ratio", largest_of);
  result.value_ratio = over_steps(arm, "norm.value.ratio", median_of);
  result.value_scaled_ratio = over_steps(arm, "norm.value_scaled.ratio", median_of);
  result.last_step = arm.measured.back().step;
  result.measured_steps = arm.measured.size();
  result.late_steps = late_count(arm);
  return result;
}

int direction(double factor) {
  return factor > comparison_band ? 1 : factor < 1 / comparison_band ? -1 : 0;
}

Comparison compare_quantity(std::string quantity, const OverSteps& base, const OverSteps& arm) {
  using Verdict = Comparison::Verdict;
  Comparison result{std::move(quantity),   base.last, arm.last, base.late_median, arm.late_median,
                    Verdict::incomparable, ""};
  const double last = arm.last / base.last, middle = arm.late_median / base.late_median;
  if (!std::isfinite(last) || !std::isfinite(middle)) {
    result.words = "not comparable: a value is zero or not a number";
    return result;
  }
  const std::string factors =
      fmt::format("×{} last, ×{} median", short_number(last), short_number(middle));
  const int at_last = direction(last), in_median = direction(middle);
  if (at_last != in_median) {
    result.verdict = Verdict::unclear;
    result.words = fmt::format("no clear change ({})", factors);
  } else if (at_last == 0) {
    result.verdict = Verdict::unchanged;
    result.words = fmt::format("left where it was ({})", factors);
  } else {
    result.verdict = at_last < 0 ? Verdict::lowered : Verdict::raised;
    result.words = fmt::format("{} ({})", at_last < 0 ? "lowered" : "raised", factors);
  }
  return result;
}

Comparison compare_losses(const ArmSummary& base, const ArmSummary& arm) {
  using Verdict = Comparison::Verdict;
  const double difference = arm.final_loss - base.final_loss;
  Comparison result{"the final loss",
                    base.final_loss,
                    arm.final_loss,
                    kNaN,
                    kNaN,
                    Verdict::incomparable,
                    "not comparable: a loss is not a number"};
  if (!std::isfinite(difference)) return result;
  result.verdict = std::abs(difference) < loss_band ? Verdict::unchanged
                   : difference < 0                 ? Verdict::lowered
                                                    : Verdict::raised;
  result.words = fmt::format("{} ({:+.3f} nats)",
                             result.verdict == Verdict::unchanged ? "left where it was"
                             : result.verdict == Verdict::lowered ? "lowered"
                                                                  : "raised",
                             difference);
  return result;
}

/// "a", "a and b", "a, b and c".
std::string listed(const std::vector<std::string>& parts) {
  if (parts.size() < 2) return parts.empty() ? "" : parts[0];
  const std::vector<std::string> head(parts.begin(), parts.end() - 1);
  return join(head, ", ") + " and " + parts.back();
}

}  // namespace

double median_of(std::vector<double> values) {
  if (values.empty()) return kNaN;
  if (std::any_of(values.begin(), values.end(), [](double v) { return std::isnan(v); }))
    return kNaN;
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

std::vector<ArmSummary> summarise(const ReportRun& run) {
  std::vector<ArmSummary> result;
  for (const ReportArm& arm : run.arms) result.push_back(summarise_arm(arm));
  return result;
}

std::vector<Comparison> compare(const ArmSummary& base, const ArmSummary& arm) {
  return {compare_losses(base, arm),
          compare_quantity("the sink score", base.sink_score, arm.sink_score),
          compare_quantity("the sink mass", base.sink_mass, arm.sink_mass),
          compare_quantity("the gradient-sink ratio", base.gradient_sink_ratio,
                           arm.gradient_sink_ratio),
          compare_quantity("the residual norm ratio", base.norm_ratio, arm.norm_ratio),
          compare_quantity("the value-norm ratio", base.value_ratio, arm.value_ratio)};
}

std::string comparison_sentence(const std::vector<Comparison>& comparisons) {
  using Verdict = Comparison::Verdict;
  std::vector<std::string> clauses;
  const auto clause = [&](Verdict verdict, const char* format) {
    std::vector<std::string> names;
    for (const Comparison& comparison : comparisons)
      if (comparison.verdict == verdict) names.push_back(comparison.quantity);
    if (!names.empty())
      clauses.push_back(fmt::format(fmt::runtime(format), listed(names),
                                    names.size() > 1 ? "they were" : "it was"));
  };
  clause(Verdict::lowered, "lowered {}");
  clause(Verdict::raised, "raised {}");
  clause(Verdict::unchanged, "left {} where {}");
  clause(Verdict::unclear, "shows no clear change of {}");
  clause(Verdict::incomparable, "cannot be compared in {}");
  return join(clauses, "; it ");
}

std::string short_number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  if (value == 0) return "0";
  const double magnitude = std::abs(value);
  if (magnitude >= 1e5 || magnitude < 1e-3) return fmt::format("{:.1e}", value);
  return magnitude >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:#.3g}", value);
}

std::string loss_text(double nats) {
  return std::isfinite(nats) ? fmt::format("{:.3f}", nats) : short_number(nats);
}

SummaryColumns summary_columns(const std::vector<ArmSummary>& arms) {
  SummaryColumns result;
  result.header = {"arm",         "final loss",       "sink score (largest head)",
                   "sink mass",   "null score, mass", "R_GS last",
                   "R_GS median", "norm ratio",       "value ratio"};
  const bool scaled = std::any_of(arms.begin(), arms.end(), [](const ArmSummary& arm) {
    return !std::isnan(arm.value_scaled_ratio.last);
  });
  if (scaled) result.header.push_back("value ratio after V-scale");
  for (const ArmSummary& arm : arms) {
    std::vector<std::string> row = {
        arm.name,
        loss_text(arm.final_loss),
        fmt::format("{} ({})", short_number(arm.sink_score.last),
                    short_number(arm.sink_score_max.last)),
        short_number(arm.sink_mass.last),
        fmt::format("{:.3g}, {:.3g}", arm.sink_score_null, arm.sink_mass_null),
        short_number(arm.gradient_sink_ratio.last),
        short_number(arm.gradient_sink_ratio.median),
        short_number(arm.norm_ratio.last),
        short_number(arm.value_ratio.last)};
    if (scaled)
      row.push_back(std::isnan(arm.value_scaled_ratio.last)
                        ? "-"
                        : short_number(arm.value_scaled_ratio.last));
    result.rows.push_back(std::move(row));
  }
  return result;
}

std::string columns_table(const SummaryColumns& columns) {
  std::vector<std::vector<std::string>> rows = {columns.header};
  rows.insert(rows.end(), columns.rows.begin(), columns.rows.end());
  return terminal_table(rows, {.left = 1});
}

std::string with_line_end(const std::string& sentence) {
  return sentence.empty() ? "" : sentence + "\n";
}

std::string summary_table(const std::filesystem::path& run_directory) {
  const std::vector<ArmSummary> arms = summarise(read_run(run_directory));
  return columns_table(summary_columns(arms)) + with_line_end(arms[0].rate_caveat);
}

}  // namespace weir
