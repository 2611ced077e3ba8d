// Which process works at which run: one at a time, whoever is killed, stopped or far away.
#include "lab/sweep/run_claim.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <vector>

#include "lab/lab_test_util.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TemporaryFolder;
using ::testing::HasSubstr;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  return names;
}

// A process that does something and ends with its number.
pid_t process(const std::function<int()>& work) {
  const pid_t child = fork();
  if (child == 0) _exit(work());
  return child;
}
int status_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void set_age(const fs::path& file, int64_t seconds) {
  struct timespec times[2] = {};
  times[0].tv_sec = times[1].tv_sec = time(nullptr) - seconds;
  ASSERT_EQ(utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
}

// The claim of a process of another machine.
fs::path claim_from_far(const fs::path& folder, int64_t age, int64_t stale_after = 60) {
  const ClaimOwner owner{.host = "far-away.example",
                         .process = 1,
                         .since = time(nullptr) - age,
                         .stale_after = stale_after,
                         .machine = "0123456789abcdef",
                         .ticks = 1,
                         .number = "fedcba9876543210"};
  fs::create_directories(folder / "a");
  const fs::path file = folder / "a" / owner.file_name();
  std::ofstream(file).flush();
  set_age(file, age);
  return file;
}

TEST(RunClaim, NamesSayTheOwner) {
  const ClaimOwner owner{.host = "node-1.cluster",
                         .process = 12,
                         .since = 1700000000,
                         .stale_after = 60,
                         .machine = "0123",
                         .ticks = 99,
                         .number = "fe"};
  const auto read = ClaimOwner::of_file_name(owner.file_name());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->file_name(), owner.file_name());
  EXPECT_EQ(read->text(), "node-1.cluster:12");
  EXPECT_FALSE(ClaimOwner::of_file_name("free-0123"));
  EXPECT_FALSE(ClaimOwner::of_file_name("held-1-2-3-x-4-5-host"));
}

TEST(RunClaim, OneAtATime) {
  TemporaryFolder folder;
  Claims claims(folder.path() / "claims", 60), others(folder.path() / "claims", 60);
  claims.open();
  EXPECT_FALSE(claims.look("a").owner);
  {
    const auto claim = claims.take("a");
    ASSERT_TRUE(claim);
    EXPECT_TRUE(claim->is_held());
    EXPECT_FALSE(claim->taken_from);
    EXPECT_EQ(others.take("a"), nullptr);
    EXPECT_TRUE(others.take("b"));
    const ClaimView view = others.look("a");
    ASSERT_TRUE(view.owner);
    EXPECT_TRUE(view.alive);
    EXPECT_EQ(view.owner->process, getpid());
  }
  EXPECT_FALSE(claims.look("a").owner);
  EXPECT_TRUE(others.take("a"));
  const auto names = names_in(folder.path() / "claims" / "a");
  ASSERT_EQ(names.size(), 1u);
  EXPECT_EQ(names[0].substr(0, 5), "free-");
}

// What another machine has changed may be seen here only after a while.
TEST(RunClaim, SaysWhetherAnotherMachineHadTheRun) {
  TemporaryFolder folder;
  Claims claims(folder.path(), 60);
  claims.open();
  EXPECT_FALSE(claims.take("a")->from_elsewhere) << "the first";
  EXPECT_FALSE(claims.take("a")->from_elsewhere) << "given back here";
  const std::filesystem::path place = folder.path() / "a";
  std::filesystem::rename(place / names_in(place).at(0), place / "free-another");
  EXPECT_TRUE(claims.take("a")->from_elsewhere) << "given back there";
  EXPECT_FALSE(claims.take("a")->from_elsewhere);
}

TEST(RunClaim, AKilledProcessIsGoneAtOnce) {
  TemporaryFolder folder;
  Claims claims(folder.path(), 3600);
  claims.open();
  const pid_t child = process([&] {
    const auto claim = claims.take("a");
    raise(SIGKILL);
    return claim ? 0 : 1;
  });
  EXPECT_EQ(status_of(child), -SIGKILL);
  const ClaimView view = claims.look("a");
  ASSERT_TRUE(view.owner);
  EXPECT_FALSE(view.alive);
  const auto claim = claims.take("a");
  ASSERT_TRUE(claim);
  ASSERT_TRUE(claim->taken_from);
  EXPECT_EQ(claim->taken_from->process, child);
}

TEST(RunClaim, AProcessThatHasEndedButWasNotWaitedForIsGone) {
  TemporaryFolder folder;
  Claims claims(folder.path(), 3600);
  claims.open();
  const pid_t child = process([&] {
    const auto claim = claims.take("a");
    raise(SIGKILL);
    return 0;
  });
  siginfo_t info = {};
  waitid(P_PID, child, &info, WEXITED | WNOWAIT);
  EXPECT_TRUE(claims.take("a"));
  status_of(child);
}

TEST(RunClaim, AnotherMachineCountsAsGoneWithoutHeartbeat) {
  TemporaryFolder folder;
  Claims claims(folder.path(), 60);
  claims.open();
  const fs::path file = claim_from_far(folder.path(), 50);
  EXPECT_EQ(claims.take("a"), nullptr);
  EXPECT_TRUE(claims.look("a").alive);
  EXPECT_NEAR(claims.look("a").silent_seconds, 50, 5);
  set_age(file, 70);
  EXPECT_FALSE(claims.look("a").alive);
  const auto claim = claims.take("a");
  ASSERT_TRUE(claim);
  EXPECT_EQ(claim->taken_from->text(), "far-away.example:1");
  // A claim looks alive from its first moment on.
  EXPECT_LT(claims.look("a").silent_seconds, 5);
}

// How long an owner may be silent is its own promise, whatever others are told.
TEST(RunClaim, TheOwnersTimeCounts) {
  TemporaryFolder folder;
  Claims claims(folder.path(), 1);
  claims.open();
  claim_from_far(folder.path(), 100, 600);
  EXPECT_EQ(claims.take("a"), nullptr);
}

TEST(RunClaim, TheHeartbeatGoesOn) {
  TemporaryFolder folder;
  Claims claims(folder.path(), 1);
  claims.open();
  const auto claim = claims.take("a");
  ASSERT_TRUE(claim);
  std::this_thread::sleep_for(std::chrono::milliseconds(1600));
  EXPECT_TRUE(claims.look("a").alive);
  EXPECT_TRUE(claim->is_held());
}

TEST(RunClaim, AnOwnerSeesThatItWasTakenOver) {
  TemporaryFolder folder;
  Claims claims(folder.path(), 1);
  claims.open();
  const pid_t child = process([&] {
    const auto claim = claims.take("a");
    raise(SIGSTOP);
    return claim->is_held() ? 1 : 0;
  });
  siginfo_t info = {};
  waitid(P_PID, child, &info, WSTOPPED | WNOWAIT);
  EXPECT_EQ(claims.take("a"), nullptr);
  std::this_thread::sleep_for(std::chrono::milliseconds(1300));
  const auto claim = claims.take("a");
  EXPECT_TRUE(claim);
  kill(child, SIGCONT);
  EXPECT_EQ(status_of(child), 0);
  EXPECT_TRUE(claim->is_held());  // the other one has given back nothing
  EXPECT_TRUE(claims.look("a").alive);
}

// Many processes claim and take over the same run; each writes when it has it and when it gives it
// back. Some kill themselves while they have it.
TEST(RunClaim, NoTwoOwners) {
  TemporaryFolder folder;
  const fs::path inside = folder.path() / "inside";
  constexpr int processes = 6, rounds = 40;
  std::vector<pid_t> children;
  const auto work = [&](int number) {
    Claims claims(folder.path() / "claims", 3600);
    claims.open();
    int taken = 0;
    for (int i = 0; i < rounds; ++i) {
      const auto claim = claims.take("a");
      if (!claim) {
        usleep(200);
        continue;
      }
      ++taken;
      // Two at a time would meet here.
      const int file = open(inside.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600);
      if (file < 0) return 1;
      usleep(100);
      close(file);
      unlink(inside.c_str());
      if (number % 2 == 0 && i > rounds / 2) raise(SIGKILL);
    }
    return 0;
  };
  for (int number = 0; number < processes; ++number)
    children.push_back(process([&, number] { return work(number); }));
  for (pid_t child : children) {
    const int status = status_of(child);
    EXPECT_TRUE(status == 0 || status == -SIGKILL) << status;
  }
  Claims claims(folder.path() / "claims", 3600);
  EXPECT_TRUE(claims.take("a"));
  EXPECT_EQ(names_in(folder.path() / "claims" / "a").size(), 1u);
}

TEST(RunClaim, WhatAKilledProcessLeftHalfMadeIsRemoved) {
  TemporaryFolder folder;
  Claims claims(folder.path(), 60);
  claims.open();
  const fs::path file = claim_from_far(folder.path(), 100);
  const fs::path left = folder.path() / ("." + file.filename().string());
  fs::create_directories(left);
  set_age(left, 100);
  claims.open();
  EXPECT_FALSE(fs::exists(left));
  EXPECT_TRUE(fs::exists(file));
}

TEST(RunClaim, AFolderThatCannotBeMadeIsAnError) {
  TemporaryFolder folder;
  std::ofstream(folder.path() / "file").flush();
  Claims claims(folder.path() / "file" / "claims", 60);
  EXPECT_THAT(error_of([&] { claims.open(); }), HasSubstr("[sweep] cannot make the folder "));
}

}  // namespace
}  // namespace weir
