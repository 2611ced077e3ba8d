#pragma once
// The final numbers of a sweep, a row an entry, without a time or a host: the file is the same,
// byte for byte, however the runs were computed.
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "lab/sweep/sweep_folder.h"

namespace weir {

/// Arrays by layer are in the rows of models of at most so many layers.
constexpr int64_t kMaxLayersInResults = 64;

class SweepResults {
 public:
  explicit SweepResults(const SweepFolder& folder) : folder_(folder) {}

  /// {"schema": "weir.sweep_results/1", "rows": [...]}, docs/sweep.md says what a row has. User
  /// error: the records of a run that is done are damaged.
  nlohmann::ordered_json of(const SweepPlan& plan);

  /// Writes results.json as the runs of a plan are now. If several processes do so at once, the
  /// file has in the end what the last run has given: whoever writes looks once more behind it.
  void write(const SweepPlan& plan);

 private:
  nlohmann::ordered_json row(const SweepEntry& entry);

  const SweepFolder& folder_;
  std::map<std::string, nlohmann::ordered_json> done_;  ///< numbers of runs that are done
};

/// The rows as a table for a terminal.
std::string results_table(const nlohmann::ordered_json& results);

}  // namespace weir
