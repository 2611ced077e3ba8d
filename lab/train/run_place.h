#pragma once
// The folder of a run as a whole: whether the run may go there, who writes in it, and what of an
// older run is removed. Nothing is removed that the folder's manifest does not list.
#include <optional>

#include "lab/train/manifest.h"
#include "lab/train/run_lock.h"
#include "lab/train/train.h"

namespace weir {

class RunPlace {
 public:
  /// Locks a folder that holds a run, and touches nothing else. User errors: another process has
  /// the lock; something else is there; a run is there and may not be replaced, or none to resume;
  /// the run was started with another configuration; files that are not Weir's lie where the run's
  /// would go.
  RunPlace(const RunConfig& config, const TrainOptions& options);

  /// To be called when all that can be wrong with the run has been checked: makes the folder and
  /// locks it, removes the run that is replaced, and says which other files stay.
  void open(const std::string& started);

  /// Internal error before `open`.
  Manifest& manifest();

 private:
  void check() const;
  /// User error where a run would remove the weights or the tokenizer that it begins with.
  void keep_inputs(const Manifest& manifest) const;

  const RunConfig& config_;
  const TrainOptions& options_;
  std::filesystem::path folder_;
  std::optional<RunLock> lock_;
  std::optional<Manifest> manifest_;
};

/// Whether the folder holds a run.
bool is_run(const std::filesystem::path& folder);

}  // namespace weir
