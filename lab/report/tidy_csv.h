#pragma once
// The numbers of runs and records as one CSV with a row a number, for pandas, Polars, DuckDB, R.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace weir {

/// The first line of such a file. `step` is empty for a record without one, and `layer`, `head` and
/// `token` where a metric has none. Heads are those of queries, of value_norm_by_head and
/// value_grad_norm_by_head those of keys and values.
inline constexpr const char* kTidyHeader = "step,arm,layer,head,token,metric,value";

/// Files of JSON Lines by "step" that one arm has; an empty path, or a file that is not there, has
/// no rows.
struct TidySource {
  std::string arm;
  std::filesystem::path records = {};  ///< of `weir.measure/1`; also one record on several lines
  std::filesystem::path losses = {};   ///< loss.jsonl
  std::filesystem::path validations = {};  ///< validation.jsonl
};

/// Writes the numbers of all sources whose metric matches one of the globs, or all if there is
/// none; whole or not at all. Returns the rows.
///
/// Metrics are the names in a record, joined by dots: sink_score, norm.resid_post,
/// others.resid_post.mean, summary.sink_rate; massive_activations.count and residual_sinks.count;
/// then train.loss, train.lr ... validation.loss and validation.recalled. Numbers have a point or
/// an exponent, or are NaN, inf, -inf. The first rows are one of each kind - with or without layer,
/// head, token - so that readers that look at the first rows alone see what every column holds;
/// then come the arms, of each its records by step and its curves. Memory does not grow with the
/// number of steps.
///
/// User errors: a file that is damaged, named with its line; no record of that format; globs that
/// match no metric, with the nearest.
int64_t write_tidy_csv(const std::string& file, const std::vector<TidySource>& sources,
                       const std::vector<std::string>& metrics = {});

}  // namespace weir
