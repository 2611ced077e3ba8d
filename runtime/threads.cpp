#include "runtime/threads.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <optional>

#include "support/error.h"

namespace weir {

struct Workers::State {
  explicit State(int workers) : count(workers), arena(workers) {
    const int cores = oneapi::tbb::info::default_concurrency();
    if (workers > cores)
      more_threads.emplace(oneapi::tbb::global_control::max_allowed_parallelism, workers);
  }
  int count;
  std::optional<oneapi::tbb::global_control> more_threads;  // oneTBB stops at the cores otherwise
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
  if (chunk <= 0) chunk = std::max<int64_t>(1, tiles / (8 * count));
  if (count == 1 || tiles <= chunk) return function(0, tiles, 0);

  std::atomic<int64_t> next{0};
  const auto take_tiles = [&](int64_t) {
    const int worker = oneapi::tbb::this_task_arena::current_thread_index();
    for (;;) {
      const int64_t first = next.fetch_add(chunk, std::memory_order_relaxed);
      if (first >= tiles || oneapi::tbb::is_current_task_group_canceling()) return;
      function(first, std::min(first + chunk, tiles), worker);
    }
  };
  const int64_t takers = std::min(count, (tiles + chunk - 1) / chunk);
  state_->arena.execute([&] {
    oneapi::tbb::parallel_for(int64_t{0}, takers, take_tiles, oneapi::tbb::simple_partitioner());
  });
}

}  // namespace weir
