#include "runtime/threads.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "support/align.h"
#include "support/error.h"

// oneTBB comes compiled, so ThreadSanitizer sees its memory but not what orders it: that is said
// here, and its own templates are left out.
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" const char* __tsan_default_suppressions() {
  return "race_top:oneapi/tbb\nrace:tbb::detail::d1::node\nrace:tbb::detail::d1::tree_node\n"
         "race:offer_work_impl\nrace:task_group_context\ncalled_from_lib:libtbb.so\n";
}
#define WEIR_UNSEEN __attribute__((no_sanitize("thread")))
#else
#define WEIR_UNSEEN
#endif

namespace weir {
namespace {

// What one thread did before it hands over comes before what another does after it takes over.
void hand_over([[maybe_unused]] void* what) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(what);
#endif
}
void take_over([[maybe_unused]] void* what) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(what);
#endif
}

// At the end of a scope, an exception or not.
struct HandOverAtEnd {
  void* what;
  ~HandOverAtEnd() { hand_over(what); }
};
struct TakeOverAtEnd {
  void* what;
  ~TakeOverAtEnd() { take_over(what); }
};

// Tiles that workers take until none is left.
struct Job {
  int64_t tiles, chunk;
  const TileFunction& function;
  std::atomic<int64_t> next = 0;

  void work() {
    take_over(this);
    const HandOverAtEnd end{this};
    const int worker = oneapi::tbb::this_task_arena::current_thread_index();
    for (;;) {
      const int64_t first = next.fetch_add(chunk, std::memory_order_relaxed);
      if (first >= tiles || oneapi::tbb::is_current_task_group_canceling()) return;
      function(first, std::min(first + chunk, tiles), worker);
    }
  }
};

// Work that every worker takes part in.
struct Meeting {
  const std::function<void(int worker)>& work;

  void join() {
    take_over(this);
    const HandOverAtEnd end{this};
    work(oneapi::tbb::this_task_arena::current_thread_index());
  }
};

}  // namespace

int64_t tiles_at_once(int64_t tiles, int workers) {
  return workers == 1 ? tiles : std::max<int64_t>(1, tiles / (8 * int64_t{workers}));
}

namespace {

// The threads of oneTBB, which all workers of the process share.
class SharedThreads {
 public:
  static SharedThreads& get() {
    static auto* threads = new SharedThreads;  // outlives every worker
    return *threads;
  }

  void enter(int count) {
    const std::lock_guard lock(mutex_);
    try_to_start(count);
    // oneTBB stops at the cores otherwise. It takes the least of several limits, and prints a
    // warning of its own where workers ask for more: so there is one, the largest asked for.
    if (count > oneapi::tbb::info::default_concurrency()) {
      ++beyond_cores_;
      if (count > limit_) {
        more_.reset();
        more_.emplace(oneapi::tbb::global_control::max_allowed_parallelism, count);
        limit_ = count;
      }
    }
  }
  void leave(int count) {
    const std::lock_guard lock(mutex_);
    if (count <= oneapi::tbb::info::default_concurrency() || --beyond_cores_ > 0) return;
    more_.reset();
    limit_ = 0;
  }

 private:
  // oneTBB starts threads from one another and ends the process where the system refuses one, so
  // they are tried first: once for the most that were asked for, since oneTBB keeps its own.
  void try_to_start(int count) {
    std::promise<void> all_started;
    const std::shared_future<void> wait = all_started.get_future().share();
    std::vector<std::thread> threads;
    std::string reason;
    try {
      while (std::ssize(threads) < count - tried_) threads.emplace_back([wait] { wait.wait(); });
    } catch (const std::system_error& error) {
      reason = error.code().message();
    }
    all_started.set_value();
    const int started = static_cast<int>(threads.size());
    for (std::thread& thread : threads) thread.join();
    if (!reason.empty())
      user_error("threads",
                 "{} threads are needed, but the system starts only {} for this process: {}. Ask "
                 "for fewer (--threads, WEIR_THREADS), or raise the limit of the user (ulimit -u) "
                 "or of the control group (pids.max).",
                 count, tried_ + started, reason);
    tried_ = std::max(tried_, count);
  }

  std::mutex mutex_;
  int tried_ = 1;  ///< threads that could be started, the main one among them
  int beyond_cores_ = 0, limit_ = 0;
  std::optional<oneapi::tbb::global_control> more_;
};

}  // namespace

struct Workers::State {
  explicit State(int workers) : count(workers), arena(workers) {
    SharedThreads::get().enter(count);
  }
  ~State() { SharedThreads::get().leave(count); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  int count;
  oneapi::tbb::task_arena arena;
};

Workers::Workers(int count) {
  if (count < 1) user_error("threads", "{} worker threads asked for; needed is at least 1", count);
  state_ = std::make_unique<State>(count);
}
Workers::~Workers() = default;
Workers::Workers(Workers&&) noexcept = default;
Workers& Workers::operator=(Workers&&) noexcept = default;

int Workers::count() const { return state_->count; }

void Workers::parallel_tiles(int64_t tiles, const TileFunction& function, int64_t chunk) const {
  if (tiles <= 0) return;
  const int64_t count = state_->count;
  if (chunk <= 0) chunk = tiles_at_once(tiles, state_->count);
  if (count == 1 || tiles <= chunk) return function(0, tiles, 0);

  Job job{tiles, chunk, function};
  const int64_t takers = std::min(count, ceil_div(tiles, chunk));
  hand_over(&job);
  const TakeOverAtEnd end{&job};
  state_->arena.execute([&] {
    oneapi::tbb::parallel_for(
        int64_t{0}, takers, [&job](int64_t) WEIR_UNSEEN { job.work(); },
        oneapi::tbb::simple_partitioner());
  });
}

void Workers::together(const std::function<void(int worker)>& work) const {
  const int count = state_->count;
  if (count == 1) return work(0);
  Meeting meeting{work};
  hand_over(&meeting);
  const TakeOverAtEnd end{&meeting};
  state_->arena.execute([&] {
    oneapi::tbb::parallel_for(
        0, count, [&meeting](int) WEIR_UNSEEN { meeting.join(); },
        oneapi::tbb::simple_partitioner());
  });
}

}  // namespace weir
