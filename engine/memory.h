#pragma once
// Memory of this process and what it can still have, as the system says; and the peak that a run
// states before it begins.
#include <algorithm>
#include <cstdint>
#include <string>

namespace weir {

/// Bytes that this process can still have, by the system and by its control groups.
int64_t free_memory();
/// The same by its control groups alone, of version 2 and 1: the least that its own group or any
/// group above leaves; cached files, which give way, do not count as used. The largest number where
/// nothing limits. `groups` lists the groups as /proc/self/cgroup does, `mount` is where the
/// system shows them.
int64_t free_of_control_groups(const std::string& groups = "/proc/self/cgroup",
                               const std::string& mount = "/sys/fs/cgroup");
/// Bytes of this process that are in memory, and the most there ever were.
int64_t resident_memory();
int64_t peak_resident_memory();

/// Bytes that a buffer of the runtime takes: large ones are in whole huge pages (runtime/buffer).
int64_t buffer_bytes(int64_t bytes);

/// Peak memory of a run in bytes, by what it is for.
struct MemoryPeak {
  int64_t weights = 0;
  int64_t state = 0;     ///< what else lasts: moments of the optimiser, sums over parts of a batch
  int64_t arena = 0;     ///< results of kernels and their workspace
  int64_t inputs = 0;    ///< of programs, and what they are made from
  int64_t kept = 0;      ///< values of probes, records, reports
  int64_t process = 0;   ///< code, data, files being read
  int64_t compiler = 0;  ///< of the whole process while it compiled; 0 if it was larger before
  int64_t earlier = 0;   ///< of the whole process before the run

  /// While it runs.
  int64_t running() const { return weights + state + arena + inputs + kept + process; }
  int64_t needed() const { return std::max(running(), compiler); }
  int64_t total() const { return std::max(needed(), earlier); }
  /// Fills in what is known of this process once programs are compiled. `before`: its
  /// peak_resident_memory before the compilation; `files`: bytes of files that are read later.
  void add_process(int64_t before, int64_t files);
};
/// "76.1 MiB = weights 1.0 MiB + ...".
std::string to_string(const MemoryPeak& peak);

/// Bytes rounded up as a limit that is certain to do: to whole MiB, after 2 % for what differs from
/// one process to the next.
std::string memory_to_allow(int64_t bytes);

}  // namespace weir
