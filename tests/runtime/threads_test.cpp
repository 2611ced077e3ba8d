#include "runtime/threads.h"

#include <gmock/gmock.h>

#include <atomic>
#include <stdexcept>
#include <vector>

#include "support/error.h"

namespace weir {
namespace {

TEST(Workers, EveryTileOnceWithAWorkerOfItsOwn) {
  for (int count : {1, 2, 5})
    for (int64_t tiles : {0, 1, 2, 7, 1000})
      for (int64_t chunk : {0, 1, 3}) {
        const Workers workers(count);
        std::vector<std::atomic<int>> seen(static_cast<size_t>(tiles)), busy(count);
        workers.parallel_tiles(
            tiles,
            [&](int64_t first, int64_t last, int worker) {
              ASSERT_GE(worker, 0);
              ASSERT_LT(worker, count);
              EXPECT_EQ(busy[worker].fetch_add(1), 0) << "two threads share a worker index";
              for (int64_t t = first; t < last; ++t) ++seen[t];
              busy[worker].fetch_sub(1);
            },
            chunk);
        for (const std::atomic<int>& n : seen) EXPECT_EQ(n, 1);
      }
}

TEST(Workers, TwoWorkersRunAtTheSameTime) {
  const Workers workers(2);
  std::atomic<int> arrived{0};
  workers.parallel_tiles(
      2,
      [&](int64_t, int64_t, int) {
        ++arrived;
        while (arrived < 2) {
        }
      },
      1);
  EXPECT_EQ(arrived, 2);
}

TEST(Workers, ExceptionReachesTheCaller) {
  const Workers workers(2);
  const auto failing = [](int64_t first, int64_t, int) {
    if (first == 3) throw std::runtime_error("tile 3");
  };
  EXPECT_THROW(workers.parallel_tiles(10, failing, 1), std::runtime_error);
}

TEST(Workers, AtLeastOneIsNeeded) {
  try {
    Workers workers(0);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("0 worker threads asked for; needed is at least"));
  }
}

}  // namespace
}  // namespace weir
