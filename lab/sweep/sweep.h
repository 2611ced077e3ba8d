#pragma once
// Brings the runs of a sweep to their end, beside any number of other processes that do so, too.
#include <cstdint>
#include <optional>

#include "lab/sweep/sweep_folder.h"
#include "lab/train/train.h"

namespace weir {

struct SweepOptions {
  TrainOptions train;            ///< how each run is made; resume and signals are set here
  std::optional<int64_t> index;  ///< only the run of this entry
  bool waits =
      true;  ///< for runs at which other processes are, so as to take them over if those end
  bool retries = false;    ///< runs that have failed once more
  bool overwrite = false;  ///< the plan in the folder may lose entries
};

struct SweepOutcome {
  int signal = 0;  ///< SIGINT or SIGTERM that ended it, after a checkpoint; 0: none
  int64_t done = 0, failed = 0, unfinished = 0;  ///< runs, of those that were asked for
};

/// Makes the runs that are not done, one after the other, in the order of their entries. A run that
/// was interrupted or whose process was killed goes on from its newest checkpoint; no run that is
/// done is made again, unless lines of it are damaged. A run that fails (a loss that is not finite,
/// too little memory, files that cannot be read) is recorded as failed, and the others go on.
/// results.json is written after every run. User errors: those of SweepFolder::open.
SweepOutcome run_sweep(const SweepPlan& plan, SweepFolder& folder, const SweepOptions& options);

/// Seconds between two looks at runs at which other processes are, at first and after some time.
constexpr double kSweepPause = 0.2, kLongestSweepPause = 2;

}  // namespace weir
