#pragma once
// One process at a time writes in the folder of a run.
#include <filesystem>
#include <string>

#include "support/error.h"

namespace weir {

/// Another process writes in the folder of a run.
class RunInUse : public UserError {
 public:
  using UserError::UserError;
};

/// Held while it lives, by an exclusive flock() on FOLDER/lock; the file says {"process", "host",
/// "started", "command"}. The system drops the lock of a process that ends in whatever way, so that
/// a killed run can be resumed at once. On a file system that several machines share, and whose
/// locks may be those of one machine alone, a file that another host has left counts as held.
class RunLock {
 public:
  static constexpr const char* kName = "lock";

  /// RunInUse if another process has the lock: which, where, since when, and what to do.
  RunLock(const std::filesystem::path& folder, const std::string& command);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  /// Removes the file that a process of `host` has left, which is known to have ended. A file that
  /// is locked, or of another host, stays.
  static void forget(const std::filesystem::path& folder, const std::string& host);

 private:
  std::filesystem::path file_;
  int descriptor_ = -1;
};

}  // namespace weir
