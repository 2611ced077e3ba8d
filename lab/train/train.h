#pragma once
// A training run: its arms one after the other, from the same seed on the same data, into one
// folder (lab/report/report.h lists the files; ARM/checkpoints and ARM/probes are there, too).
//
// Measured step s shows the state before update s on batch s, so that step 0 is the initial model
// and the last one the trained model on a batch it has not seen.
#include <functional>
#include <string>

#include "lab/train/config.h"
#include "support/target.h"

namespace weir {

class SignalWatch;

struct TrainOptions {
  Target target = host_target();
  std::string command = "weir train";  ///< as given, for run.json
  bool resume = false;                 ///< continue what is in the folder
  bool overwrite = false;              ///< replace the run in the folder, as far as Weir wrote it
  std::string made_by = "train";       ///< which command makes the run
  bool replaces_own = false;           ///< replace a run that the same command made
  bool quiet = false;                  ///< no progress
  bool profile = false;                ///< ARM/profile.json says where the time of the steps went
  /// Every kernel's results are looked at; what is not finite first is told, whatever the loss is.
  bool check_finite = false;
  /// Called after every optimiser step with the number of steps done.
  std::function<void(const std::string& arm, int64_t done)> on_step = {};
  /// The watch of a caller who makes several runs, so that a signal that comes before or between
  /// them counts, too; null: the run has one of its own.
  const SignalWatch* signals = nullptr;
};

struct TrainOutcome {
  int signal = 0;  ///< SIGINT or SIGTERM that ended the run after a checkpoint; 0: finished
  std::string arm;
  int64_t step = 0;
};

/// Runs all arms. Nothing is written or removed before all of them have been checked and compiled
/// (lab/train/run_place.h says what is removed). A resumed run continues each arm at its newest
/// checkpoint, or at an older one where lines of its files are missing since, and its files come
/// out as those of an uninterrupted run, bit for bit but for tokens_per_second. User errors: those
/// of RunPlace, data other than what the run was started with, a damaged checkpoint, a loss that is
/// not finite, and what data, model, probes and memory give.
TrainOutcome train(const RunConfig& config, const TrainOptions& options);

/// The configuration a run was started with; user error if there is none in the folder.
RunConfig config_of_run(const std::string& folder);

}  // namespace weir
