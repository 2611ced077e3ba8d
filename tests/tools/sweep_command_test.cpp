// weir sweep as a user runs it.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tools/command_test_util.h"

namespace weir::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* kSweep = R"({
  "base": {"steps": 2000, "batch": 4, "length": 12, "threads": 1, "model.layers": 1,
           "model.d_model": 16, "model.heads": 2, "model.d_ff": 24, "data.symbols": 9,
           "measure.steps": [0, 2000], "checkpoint_every": 200},
  "arms": {"baseline": {}, "scaled": {"v_scale.variant": "full"}}})";

TEST_F(Command, ASweepIsMadeListedAndNotMadeAgain) {
  write("small.json", kSweep);
  const CommandResult first = weir("sweep small.json");
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_THAT(first.out, AllOf(StartsWith("entry  arm       seed  grid"),
                               HasSubstr("2 runs are done, 0 have failed, 0 are unfinished. "
                                         "Results: runs/small/results.json\n")));
  EXPECT_THAT(first.err, HasSubstr("entry 1 of 2: arm scaled, seed 42, in runs/small/runs/"));
  const std::string results = text_of(folder_ / "runs/small/results.json");
  // By its folder, by the plan in it, and as a word.
  for (const std::string& again : {std::string("runs/small"), std::string("runs/small/sweep.json"),
                                   "'" + std::string(kSweep) + "' --out runs/small --threads 1"}) {
    const CommandResult result = weir("sweep " + again);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(text_of(folder_ / "runs/small/results.json"), results);
  }
  const CommandResult listed = weir("sweep runs/small --list");
  EXPECT_THAT(listed.out, AllOf(HasSubstr("entry  run"), HasSubstr("arm scaled, seed 42    done")));
}

TEST_F(Command, AnInterruptedSweepEndsWith75AndGoesOn) {
  write("small.json", kSweep);
  const CommandResult interrupted =
      weir_until("runs/small/runs/*/run/loss.jsonl", "TERM", "sweep small.json");
  ASSERT_EQ(interrupted.status, 75) << interrupted.err;
  EXPECT_THAT(
      interrupted.out,
      HasSubstr("Interrupted; a checkpoint is written. Go on with\n\n  weir sweep runs/small\n"));
  EXPECT_THAT(interrupted.err, HasSubstr("entry 0: interrupted at step "));
  EXPECT_THAT(weir("sweep small.json --list").out, HasSubstr("interrupted at step "));
  const CommandResult resumed = weir("sweep small.json");
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("run: resumed at step "));
  ASSERT_EQ(weir("sweep small.json --out calm").status, 0);
  EXPECT_EQ(text_of(folder_ / "calm/results.json"), text_of(folder_ / "runs/small/results.json"));
}

TEST_F(Command, ARunningEntryIsListedAndLeftToItsProcess) {
  write("small.json", kSweep);
  const CommandResult result = shell(fmt::format(
      "({0} sweep small.json --index 0 > /dev/null 2>&1 & pid=$!; "
      "while [ ! -e runs/small/runs/*/run/loss.jsonl ] && kill -0 $pid; do sleep 0.02; "
      "done; kill -STOP $pid; {0} sweep small.json --list; {0} sweep small.json --index 0 "
      "--no-wait; "
      "echo status $?; kill -KILL $pid; {0} sweep small.json --list)",
      WEIR_COMMAND));
  EXPECT_THAT(result.out, AllOf(HasSubstr("  running by "), HasSubstr(" of 2000\n"),
                                HasSubstr("Other processes are at the rest. Go on with\n\n  weir "
                                          "sweep runs/small --index 0\n"),
                                HasSubstr("status 75\n"), HasSubstr("  stale: ")));
}

TEST_F(Command, AFailedRunIsSaidAndTheStatusIsOne) {
  write("small.json",
        R"({"base": {"steps": 4, "batch": 4, "length": 12, "optimizer.kind": "sgd",
            "optimizer.clip": 0}, "grid": {"optimizer.rate": [1e6, 0.01]}})");
  const CommandResult result = weir("sweep small.json");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("1 runs are done, 1 have failed, 0 are unfinished."),
                    HasSubstr("`weir sweep runs/small --list` says why runs have failed, --retry "
                              "tries them once more.\n")));
  EXPECT_THAT(result.err, HasSubstr("entry 0 has failed: [train] run: "));
  EXPECT_THAT(weir("sweep runs/small --list").out, HasSubstr("failed: [train] run: the "));
}

TEST_F(Command, MistakesOfASweepAreSaidAtOnceAndNothingIsDone) {
  const CommandResult result = weir(
      R"(sweep '{"base": {"stepz": 1}, "arms": {"a": {"batch": 0}}, "seeds": []}' --out made)");
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("[sweep] 3 problems:"), HasSubstr("base: unknown key"),
                                HasSubstr("arm a: batch is '0'"), HasSubstr("seeds is []")));
  EXPECT_FALSE(fs::exists(folder_ / "made"));
  EXPECT_THAT(weir("sweep '{}' --index 1").err,
              HasSubstr("[sweep] --index is 1, but the sweep has 1 entries: 0 to 0 are there."));
  const CommandResult absent = weir(
      R"(sweep '{"base": {"data.kind": "text", "data.files": ["no.txt"], "data.tokenizer": "none"}}')");
  EXPECT_EQ(absent.status, 1);
  EXPECT_THAT(absent.err,
              AllOf(HasSubstr("no.txt"), HasSubstr("data.tokenizer: there is no none.")));
  fs::create_directories(folder_ / "empty");
  EXPECT_THAT(weir("sweep empty").err,
              HasSubstr("[sweep] empty is a folder without a sweep.json. Give the file of a sweep, "
                        "its text ({...}), or the folder of one that was begun."));
  EXPECT_THAT(weir("sweep absent.json").err, HasSubstr("absent.json"));
}

}  // namespace
}  // namespace weir::test
