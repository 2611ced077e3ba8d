#include "runtime/threads.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
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

// oneTBB takes the least of several limits, and warns in words of its own.
TEST(Workers, MoreThanCoresBesideOthersAreAllThereAndNothingIsPrinted) {
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  ::testing::internal::CaptureStderr();
  std::vector<std::unique_ptr<Workers>> all;
  const auto expect_all = [](const Workers& workers) {
    // Each waits for the others: as many threads are there as were asked for.
    std::atomic<int> arrived{0};
    workers.parallel_tiles(
        workers.count(),
        [&](int64_t, int64_t, int) {
          ++arrived;
          while (arrived < workers.count()) std::this_thread::yield();
        },
        1);
    EXPECT_EQ(arrived, workers.count());
  };
  for (int more : {1, 2, 0, 4, 3}) {
    all.push_back(std::make_unique<Workers>(cores + more));
    for (const auto& workers : all) expect_all(*workers);
  }
  while (!all.empty()) {
    all.erase(all.begin());
    for (const auto& workers : all) expect_all(*workers);
  }
  expect_all(Workers(cores + 5));
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

// As in a control group with few processes. The limit is of a user, and root has none.
TEST(Workers, ThreadsThatTheSystemRefusesAreAUserError) {
  const auto refused = [] {
    if (getuid() == 0 &&
        (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0))
      _exit(77);
    const rlimit few{1, 1};
    if (setrlimit(RLIMIT_NPROC, &few) != 0) _exit(77);
    try {
      Workers workers(300);
      _exit(1);
    } catch (const UserError& error) {
      const std::string text = error.what();
      _exit(text.starts_with("[threads] 300 threads are needed, but the system starts only ") &&
                    text.find("ulimit -u") != text.npos
                ? 0
                : 2);
    }
  };
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer starts no threads behind fork";
#endif
  const pid_t child = fork();
  if (child == 0) refused();
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "this process may not become another user";
  EXPECT_EQ(WEXITSTATUS(status), 0);
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
