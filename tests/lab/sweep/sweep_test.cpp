// A sweep from its start to results.json: interrupted, failed, damaged, extended, in use.
#include "lab/sweep/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "lab/lab_test_util.h"
#include "lab/sweep/sweep_results.h"
#include "lab/train/run_lock.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using test::error_of;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const test::TestCache cache;

// Two arms, of runs that take some milliseconds a step.
Json small_sweep() {
  return Json{{"base",
               {{"steps", 6},
                {"batch", 4},
                {"length", 12},
                {"threads", 1},
                {"model",
                 {{"layers", 2},
                  {"d_model", 16},
                  {"heads", 2},
                  {"kv_heads", 1},
                  {"d_head", 8},
                  {"d_ff", 24}}},
                {"data.symbols", 9},
                {"data.triggers", 2},
                {"optimizer.warmup", 2}}},
              {"arms", {{"baseline", Json::object()}, {"scaled", {{"v_scale.variant", "full"}}}}},
              {"seeds", {1, 2}}};
}

SweepPlan plan_of(const Json& json) {
  UsageProblems problems("sweep");
  SweepPlan plan = read_sweep({json.dump(), "a.json"}, problems);
  problems.raise();
  return plan;
}

SweepOptions quietly() {
  SweepOptions options;
  options.train.quiet = true;
  return options;
}

std::string text_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

SweepOutcome made(const Json& sweep, const fs::path& out, const SweepOptions& options = quietly()) {
  SweepFolder folder(out, 1);
  return run_sweep(plan_of(sweep), folder, options);
}

std::vector<std::string> states(const Json& sweep, const fs::path& out) {
  std::vector<std::string> texts;
  const SweepFolder folder(out, 1);
  for (const SweepEntry& entry : plan_of(sweep).entries)
    texts.push_back(status_text(folder.status(entry), entry.config.steps));
  return texts;
}

TEST(Sweep, ResultsSayHowMuchIsRecalled) {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "sweep";
  Json sweep = small_sweep();
  sweep["base"]["data.kind"] = "recall";
  sweep["base"].erase("data.symbols");
  sweep["base"].erase("data.triggers");
  for (const char* key : {"data.pairs", "data.queries"}) sweep["base"][key] = 2;
  for (const char* key : {"data.keys", "data.values", "data.fillers"}) sweep["base"][key] = 4;
  sweep["seeds"] = {1};
  EXPECT_EQ(made(sweep, out).done, 2);
  const Json results = Json::parse(text_of(out / "results.json"));
  for (const Json& row : results["rows"]) {
    std::istringstream lines(
        text_of(out / "runs" / row["run"].get<std::string>() / "run/validation.jsonl"));
    std::string last;
    for (std::string line; std::getline(lines, line);) last = line;
    EXPECT_EQ(row["validation_recalled"], Json::parse(last)["recalled"]);
    EXPECT_EQ(row["validation_loss"], Json::parse(last)["loss"]);
    EXPECT_GE(row["validation_recalled"], 0);
    EXPECT_LE(row["validation_recalled"], 1);
  }
}

TEST(Sweep, ResultsHaveARowAnEntry) {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "sweep";
  const SweepOutcome outcome = made(small_sweep(), out);
  EXPECT_EQ(outcome.done, 4);
  EXPECT_EQ(outcome.failed + outcome.unfinished + outcome.signal, 0);
  const Json results = Json::parse(text_of(out / "results.json"));
  EXPECT_EQ(results["schema"], "weir.sweep_results/1");
  ASSERT_EQ(results["rows"].size(), 4u);
  const Json& row = results["rows"][3];
  EXPECT_EQ(row["arm"], "scaled");
  EXPECT_EQ(row["seed"], 2);
  EXPECT_EQ(row["state"], "done");
  EXPECT_EQ(row["tokens"], 6 * 4 * 12);
  EXPECT_TRUE(row["validation_loss"].is_null());
  EXPECT_TRUE(row["validation_recalled"].is_null());
  // The numbers are those of the files of the run.
  const fs::path arm = out / "runs" / row["run"].get<std::string>() / "run";
  std::istringstream losses(text_of(arm / "loss.jsonl")), records(text_of(arm / "metrics.jsonl"));
  std::string loss, record;
  for (std::string line; std::getline(losses, line);) loss = line;
  for (std::string line; std::getline(records, line);) record = line;
  EXPECT_EQ(row["loss"], Json::parse(loss)["loss"]);
  EXPECT_EQ(row["final_loss"], row["loss"]);  // 5 % of six steps are one
  const Json last = Json::parse(record);
  EXPECT_EQ(row["measured"]["step"], 6);
  EXPECT_EQ(row["measured"]["loss"], last["loss"]);
  const auto& heads = last["layers"][1]["sink_score"];
  EXPECT_DOUBLE_EQ(row["measured"]["by_layer"]["sink_score"][1].get<double>(),
                   (heads[0].get<double>() + heads[1].get<double>()) / 2);
  EXPECT_EQ(row["measured"]["by_layer"]["gradient_sink_ratio"][0],
            last["layers"][0]["gradient_sink_ratio"]);
  for (const char* key : {"value_ratio", "norm_ratio"})
    EXPECT_EQ(row["measured"]["by_layer"][key].size(), 2u);
  EXPECT_EQ(states(small_sweep(), out), std::vector<std::string>(4, "done"));
  EXPECT_THAT(results_table(results),
              AllOf(StartsWith("entry  arm       seed  grid  final loss"), HasSubstr("scaled")));
}

TEST(Sweep, InterruptedAndResumedItGivesTheSameBytes) {
  TemporaryFolder folder;
  made(small_sweep(), folder.path() / "calm");
  const fs::path out = folder.path() / "sweep";
  SweepOptions options = quietly();
  options.train.on_step = [](const std::string&, int64_t done) {
    if (done == 4) raise(SIGTERM);
  };
  for (int i = 0; i < 4; ++i) {
    const SweepOutcome outcome = made(small_sweep(), out, options);
    EXPECT_EQ(outcome.signal, SIGTERM);
    EXPECT_EQ(outcome.done, i);
    EXPECT_EQ(states(small_sweep(), out)[static_cast<size_t>(i)], "interrupted at step 4 of 6");
  }
  EXPECT_EQ(made(small_sweep(), out, options).done, 4);
  EXPECT_EQ(text_of(out / "results.json"), text_of(folder.path() / "calm" / "results.json"));
}

TEST(Sweep, OneEntryIsMadeByItsIndex) {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "sweep";
  SweepOptions options = quietly();
  options.index = 2;
  EXPECT_EQ(made(small_sweep(), out, options).done, 1);
  EXPECT_EQ(states(small_sweep(), out),
            (std::vector<std::string>{"to do", "to do", "done", "to do"}));
  const Json results = Json::parse(text_of(out / "results.json"));
  EXPECT_EQ(results["rows"][0]["state"], "unfinished");
  EXPECT_EQ(results["rows"][2]["state"], "done");
}

TEST(Sweep, ARunThatFailsIsRecordedAndTheOthersGoOn) {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "sweep";
  Json sweep = small_sweep();
  sweep["arms"]["scaled"] = {
      {"optimizer.rate", 1e6}, {"optimizer.clip", 0}, {"optimizer.kind", "sgd"}};
  sweep["seeds"] = {1};
  SweepOutcome outcome = made(sweep, out);
  EXPECT_EQ(outcome.done, 1);
  EXPECT_EQ(outcome.failed, 1);
  const std::string results = text_of(out / "results.json");
  const Json row = Json::parse(results)["rows"][1];
  EXPECT_EQ(row["state"], "failed");
  EXPECT_THAT(row["reason"].get<std::string>(),
              AllOf(HasSubstr("is nan"), HasSubstr("kept in runs/")));
  EXPECT_THAT(states(sweep, out)[1], StartsWith("failed: [train] run: "));
  // It is not tried again unless that is asked for, and then fails in the same way.
  int steps = 0;
  SweepOptions options = quietly();
  options.train.on_step = [&](const std::string&, int64_t) { ++steps; };
  EXPECT_EQ(made(sweep, out, options).failed, 1);
  EXPECT_EQ(steps, 0);
  options.retries = true;
  EXPECT_EQ(made(sweep, out, options).failed, 1);
  EXPECT_EQ(text_of(out / "results.json"), results);
  // Elsewhere the same.
  made(sweep, folder.path() / "other");
  EXPECT_EQ(text_of(folder.path() / "other" / "results.json"), results);
}

TEST(Sweep, DamagedLinesAreComputedAgain) {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "sweep";
  made(small_sweep(), out);
  const std::string results = text_of(out / "results.json");
  const std::string run = plan_of(small_sweep()).entries[1].run;
  std::ofstream(out / "runs" / run / "run" / "metrics.jsonl").flush();
  fs::remove(out / "results.json");
  EXPECT_EQ(made(small_sweep(), out).done, 4);
  EXPECT_EQ(text_of(out / "results.json"), results);
}

TEST(Sweep, EntriesMayBeAddedButNotLost) {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "sweep";
  Json less = small_sweep();
  less["seeds"] = {2};
  made(less, out);
  int steps = 0;
  SweepOptions options = quietly();
  options.train.on_step = [&](const std::string&, int64_t) { ++steps; };
  EXPECT_EQ(made(small_sweep(), out, options).done, 4);
  EXPECT_EQ(steps, 12);  // of two new runs
  EXPECT_EQ(error_of([&] { made(less, out); }),
            fmt::format("[sweep] {0} is another sweep: it has entries which this one lacks, or has "
                        "with other settings: 0 (arm baseline, seed 1); 2 (arm scaled, seed 1). "
                        "Entries may be added. Choose another folder with --out, or put this plan "
                        "in the place of that one with --overwrite; runs that are there stay.",
                        (out / "sweep.json").string()));
  options.overwrite = true;
  EXPECT_EQ(made(less, out, options).done, 2);
  EXPECT_EQ(Json::parse(text_of(out / "results.json"))["rows"].size(), 2u);
  EXPECT_EQ(steps, 12);
}

TEST(Sweep, AnotherFolderIsRefused) {
  TemporaryFolder folder;
  std::ofstream(folder.path() / "mine.txt").flush();
  EXPECT_EQ(error_of([&] { made(small_sweep(), folder.path()); }),
            fmt::format("[sweep] {} exists and is no sweep. Choose another folder with --out.",
                        folder.path().string()));
  fs::create_directories(folder.path() / "b");
  std::ofstream(folder.path() / "b" / "sweep.json") << "{}";
  EXPECT_THAT(error_of([&] { made(small_sweep(), folder.path() / "b"); }),
              HasSubstr("sweep.json is damaged. Put the file back, or remove it"));
}

// Another machine takes over the run, says nothing more, and is gone after its second.
TEST(Sweep, ARunThatWasTakenOverIsLeft) {
  TemporaryFolder folder;
  Json sweep = small_sweep();
  sweep["arms"].erase("scaled");
  sweep["seeds"] = {1};
  made(sweep, folder.path() / "calm");
  const fs::path out = folder.path() / "sweep";
  const fs::path claims = out / "claims" / plan_of(sweep).entries[0].run;
  int steps = 0;
  SweepOptions options = quietly();
  options.train.on_step = [&](const std::string&, int64_t done) {
    if (++steps != 3) return;
    const ClaimOwner owner{.host = "far-away",
                           .process = 7,
                           .since = 0,
                           .stale_after = 1,
                           .machine = "0123456789abcdef",
                           .ticks = 1,
                           .number = "fedcba9876543210"};
    const fs::path mine = fs::directory_iterator(claims)->path();
    fs::rename(mine, claims / owner.file_name());
    EXPECT_THAT(states(sweep, out)[0],
                StartsWith("running by far-away:7 since 1970-01-01T00:00:00Z"));
    std::this_thread::sleep_for(std::chrono::milliseconds(500));  // two heartbeats
    EXPECT_EQ(done, 3);
  };
  testing::internal::CaptureStderr();
  EXPECT_EQ(made(sweep, out, options).done, 1);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(said,
              HasSubstr("entry 0: another process has taken over the run, since this one gave "
                        "no sign of life"));
  EXPECT_THAT(said, HasSubstr("entry 0: far-away:7 is gone, its run is taken over"));
  EXPECT_EQ(text_of(out / "results.json"), text_of(folder.path() / "calm" / "results.json"));
}

// The lock of the run itself: whoever seems to be gone and still writes is not disturbed.
TEST(Sweep, ARunInUseIsLeftToItsProcess) {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "sweep";
  SweepOptions options = quietly();
  options.train.on_step = [](const std::string&, int64_t done) {
    if (done == 2) raise(SIGINT);
  };
  EXPECT_EQ(made(small_sweep(), out, options).signal, SIGINT);
  const RunLock lock(out / "runs" / plan_of(small_sweep()).entries[0].run, "weir train");
  options = quietly();
  options.waits = false;
  testing::internal::CaptureStderr();
  const SweepOutcome outcome = made(small_sweep(), out, options);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("is in use by process "));
  EXPECT_EQ(outcome.done, 3);
  EXPECT_EQ(outcome.unfinished, 1);
  EXPECT_EQ(outcome.failed, 0);
}

// A shared folder shows the file of another machine as it was a moment ago.
TEST(Sweep, ARunFromAnotherMachineIsLookedAtAgain) {
  TemporaryFolder folder;
  Json sweep = small_sweep();
  sweep["arms"].erase("scaled");
  sweep["seeds"] = {1};
  made(sweep, folder.path() / "calm");
  const fs::path out = folder.path() / "sweep";
  SweepOptions options = quietly();
  options.train.on_step = [](const std::string&, int64_t done) {
    if (done == 2) raise(SIGINT);
  };
  EXPECT_EQ(made(sweep, out, options).signal, SIGINT);
  const std::string run = plan_of(sweep).entries[0].run;
  const fs::path claims = out / "claims" / run, file = out / "runs" / run / "run.json";
  fs::rename(fs::directory_iterator(claims)->path(), claims / "free-another");
  const std::string whole = text_of(file);
  std::ofstream(file) << whole.substr(0, whole.size() / 2);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    std::ofstream(file) << whole;
  });
  testing::internal::CaptureStderr();
  const SweepOutcome outcome = made(sweep, out);
  later.join();
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("It is looked at again in 1 s, since another machine had it."));
  EXPECT_EQ(outcome.done, 1);
  EXPECT_EQ(text_of(out / "results.json"), text_of(folder.path() / "calm" / "results.json"));
}

TEST(Sweep, TheLockOfAHostThatIsGoneIsForgotten) {
  TemporaryFolder folder;
  const fs::path lock = folder.path() / RunLock::kName;
  std::ofstream(lock) << R"({"process": 1, "host": "far-away"})";
  RunLock::forget(folder.path(), "elsewhere");
  EXPECT_TRUE(fs::exists(lock));
  RunLock::forget(folder.path(), "far-away");
  EXPECT_FALSE(fs::exists(lock));
  const RunLock held(folder.path(), "weir train");
  const std::string host = Json::parse(text_of(lock))["host"];
  RunLock::forget(folder.path(), host);
  EXPECT_TRUE(fs::exists(lock));
}

TEST(Sweep, WithoutRecordsResultsHaveLossesAlone) {
  TemporaryFolder folder;
  Json sweep = small_sweep();
  sweep["base"]["measure.metrics"] = false;
  sweep["arms"].erase("scaled");
  EXPECT_EQ(made(sweep, folder.path() / "sweep").done, 2);
  const Json row = Json::parse(text_of(folder.path() / "sweep" / "results.json"))["rows"][0];
  EXPECT_TRUE(row["measured"].is_null());
  EXPECT_GT(row["final_loss"].get<double>(), 1);
}

}  // namespace
}  // namespace weir
