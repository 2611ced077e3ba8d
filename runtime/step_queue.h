#pragma once
// The steps of a program on all workers. A step starts once those that it depends on have ended,
// so that a worker that finds no tile left of one kernel goes on with the next that may start, and
// does not wait for the others. Among the tiles that may be taken, those of the earliest step are.
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/program.h"

namespace weir {

/// A step starts at most so many steps before the first that has not ended.
constexpr int32_t kStepsAhead = 32;

/// For every step the steps that must have ended before it starts, among the kStepsAhead before it:
/// those that write what it touches, or touch what it writes. A probe comes after the one before.
std::vector<std::vector<int32_t>> order_of_steps(const ProgramCode& code);

/// One run of a program.
class StepQueue {
 public:
  /// Everything outlives the run. Without a `probe_sink` probes are passed over.
  StepQueue(const ProgramCode& code, const std::vector<void*>& inputs, const Workspace& workspace,
            int workers, const ProbeSink& probe_sink);

  /// Takes part until all steps have ended, one call a worker. Probes are handed out on the thread
  /// that made the queue, which takes part.
  void work(int worker);
  /// What the probe sink threw, once all have returned.
  void rethrow() const;

 private:
  struct State {
    int64_t tiles = 0, next = 0, chunk = 1;
    int64_t left = 0;  ///< tiles that have not ended
    std::vector<void*> buffers;
  };
  struct Piece {
    int32_t step = -1;
    int64_t first = 0, last = 0;
  };
  enum class Taken { piece, nothing_yet, end };

  Taken take(Piece& piece);
  bool may_start(int32_t step) const;
  void run(const Piece& piece, int worker);
  void finish(const Piece& piece);
  void wait_for_change(uint64_t seen) const;

  const ProgramCode& code_;
  const Workspace& workspace_;
  const ProbeSink& probe_sink_;
  const std::thread::id owner_ = std::this_thread::get_id();
  std::vector<State> states_;
  std::mutex mutex_;   // guards states_, front_ and failure_
  int32_t front_ = 0;  // the first step that has not ended
  std::exception_ptr failure_;
  std::atomic<uint64_t> changes_ = 0;  // of what may start
};

}  // namespace weir
