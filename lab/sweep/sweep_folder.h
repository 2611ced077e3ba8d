#pragma once
// The folder of a sweep: sweep.json (the plan), runs/RUN (the folders of runs), claims/ (which
// process works at which run), failed/RUN.json, results.json.
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lab/sweep/run_claim.h"
#include "lab/sweep/sweep_plan.h"

namespace weir {

/// What has become of a run.
enum class RunState {
  to_do,
  running,      ///< a process that lives works at it
  stale,        ///< a process that is gone was at it
  interrupted,  ///< begun, and nobody works at it
  done,
  failed
};

struct RunStatus {
  RunState state = RunState::to_do;
  int64_t step = 0;         ///< steps done: of a run that is not running, those it would keep
  ClaimView claim;          ///< of running and stale ones
  std::string reason = {};  ///< of a failed one
};

/// "running by host:12 since 2026-01-31T12:00:00Z, step 40 of 100".
std::string status_text(const RunStatus& status, int64_t steps);

class SweepFolder {
 public:
  static constexpr int64_t kStaleAfter = 60;  ///< seconds

  explicit SweepFolder(std::filesystem::path folder, int64_t stale_after = kStaleAfter);

  const std::filesystem::path& path() const { return folder_; }
  std::filesystem::path plan_file() const { return folder_ / "sweep.json"; }
  std::filesystem::path results_file() const { return folder_ / "results.json"; }
  std::filesystem::path run(const std::string& run) const { return folder_ / "runs" / run; }
  /// The one arm of a run.
  std::filesystem::path arm(const std::string& run) const { return this->run(run) / "run"; }

  /// Whether a plan may go here. User error: something else than a sweep is in the folder, or a
  /// sweep that has runs which the plan lacks, unless `overwrite`.
  void check(const SweepPlan& plan, bool overwrite) const;
  /// Makes the folder and writes the plan, unless it is there. User errors: as above.
  void open(const SweepPlan& plan, bool overwrite);

  Claims& claims() { return claims_; }
  /// What is to be seen of a run; reads no lines of a run that is done.
  RunStatus status(const SweepEntry& entry) const;
  /// Whether a run has been brought to its end, or has failed.
  bool is_settled(const std::string& run) const;
  bool is_done(const std::string& run) const;
  /// Whether all lines of a run that is done are there, so that a report can be made of it.
  bool is_whole(const SweepEntry& entry) const;

  /// Writes a file that other processes may be writing at the same time. Where the locks of a file
  /// system do not reach other machines, one may take the other's part of a file for left over, and
  /// remove it; so it is tried again.
  static void write_shared(const std::filesystem::path& file, const std::string& text);

  /// Why a run failed, none if it did not.
  std::optional<std::string> failure(const std::string& run) const;
  void set_failure(const std::string& run, const std::string& reason) const;
  void forget_failure(const std::string& run) const;

 private:
  std::filesystem::path failure_file(const std::string& run) const;

  std::filesystem::path folder_;
  Claims claims_;
};

}  // namespace weir
