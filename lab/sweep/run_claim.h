#pragma once
// Which process works at which run of a sweep, where any number of them share a folder, also on
// other machines: a claim is a file that is made exclusively, shows by a heartbeat that its owner
// lives, and is taken over when the owner is gone.
//
// CLAIMS/RUN/ holds one file, whose name is the state of the run: "free" and
// the machine that had it last, or the owner (process, host, since when, and a random number, so
// that no name is ever used twice). The folder appears together with its file by one rename, which
// fails if it is there already; from then on the file is only renamed. A rename names the state
// that it ends, and fails if another process has ended it first. So of several processes that claim
// a run, or take it over, exactly one succeeds, and whoever owns a run can see it by the name of
// the file. No locks of the file system are needed, nor links, nor equal clocks: a heartbeat sets
// the time of the file by the clock of the file system, and is compared with that clock.
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace weir {

/// A process, as names of files say it.
struct ClaimOwner {
  std::string host;
  int64_t process = 0;
  int64_t since = 0;        ///< seconds since 1970, by the owner's clock
  int64_t stale_after = 0;  ///< seconds without a heartbeat after which it counts as gone
  std::string machine;      ///< this boot of the host, and its space of process numbers
  int64_t ticks = 0;        ///< when the process started, which a later one of its number did not
  std::string number;       ///< random

  std::string file_name() const;
  static std::optional<ClaimOwner> of_file_name(const std::string& name);
  /// "host:process".
  std::string text() const { return host + ":" + std::to_string(process); }
};

/// What is to be seen of a run from outside.
struct ClaimView {
  std::optional<ClaimOwner> owner;  ///< none: nobody works at it
  bool alive = false;
  double silent_seconds = 0;  ///< since the last heartbeat
};

/// A run that this process owns. A thread gives the heartbeat.
class RunClaim {
 public:
  RunClaim(std::filesystem::path file, const ClaimOwner& owner);
  /// Gives the run back, unless it was taken over.
  ~RunClaim();
  RunClaim(const RunClaim&) = delete;
  RunClaim& operator=(const RunClaim&) = delete;

  /// Whether the run is still this process's. False once another one has taken it over, which
  /// happens only if there was no heartbeat for the time after which an owner counts as gone: a
  /// process that was stopped, a machine that slept, a file system that did not answer.
  bool is_held();
  /// The owner who was gone, where this claim was taken over.
  std::optional<ClaimOwner> taken_from;
  /// Whether a process of another machine has had the run last.
  bool from_elsewhere = false;

 private:
  bool beat();
  void beat_until_stopped();

  std::filesystem::path file_;
  std::string free_;  ///< the name that it has once it is given back
  int64_t stale_after_;
  std::atomic<bool> lost_ = false;
  std::atomic<int64_t> last_beat_;  ///< seconds of CLOCK_BOOTTIME, which goes on during sleep
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stops_ = false;
  std::thread thread_;
};

/// The claims of a sweep.
class Claims {
 public:
  /// Makes nothing. `stale_after` is in seconds; there are six heartbeats in that time.
  Claims(std::filesystem::path folder, int64_t stale_after);

  /// Makes the folder, and removes what processes that are gone left half made.
  void open();
  /// The claim, or null if a process that lives has it. User error: the folder cannot be written.
  std::unique_ptr<RunClaim> take(const std::string& run);
  ClaimView look(const std::string& run) const;

 private:
  bool is_alive(const ClaimOwner& owner, const std::filesystem::path& file, double* silent) const;
  ClaimOwner new_owner() const;
  /// Seconds since 1970 by the clock that sets the times of the folder's files: a file that is made
  /// now tells.
  double file_system_now() const;
  bool make(const std::string& run, const ClaimOwner& owner);

  std::filesystem::path folder_;
  int64_t stale_after_;
  mutable std::optional<double> ahead_;  ///< that clock less CLOCK_BOOTTIME, as of `asked_at_`
  mutable double asked_at_ = 0;
};

}  // namespace weir
