// Event files of runs: what is in them, after whatever happened to the run, and as TensorBoard
// reads them.
#include "lab/train/event_log.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "io/event_file.h"
#include "lab/lab_test_util.h"
#include "lab/train/train.h"
#include "testing/peers.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::read_all;
using test::tiny_run;

const test::TestCache cache;

TrainOptions quietly() {
  TrainOptions options;
  options.quiet = true;
  return options;
}

RunConfig logged_run(const std::string& out) {
  return tiny_run(out, {"tensorboard=true", "measure.steps=0,2,6", "checkpoint_every=2"});
}

fs::path events_of(const fs::path& run) { return run / "run" / EventLog::kName; }

// The contents of all events of a file, which is sound to its last byte.
std::vector<std::string> contents_of(const fs::path& file) {
  const std::string bytes = read_all(file);
  std::vector<std::string> contents;
  size_t sound = 0;
  for (const StoredEvent& event : read_events(bytes)) {
    contents.emplace_back(event.content);
    sound += event_record(event.wall_time, event.content).size();
  }
  EXPECT_EQ(sound, bytes.size());
  return contents;
}

// Without the speed, which is no result.
std::vector<std::pair<int64_t, std::map<std::string, float>>> results_of(const fs::path& file) {
  std::vector<std::pair<int64_t, std::map<std::string, float>>> results;
  for (const std::string& content : contents_of(file)) {
    const ScalarEvent event = parse_event(content);
    std::map<std::string, float> scalars(event.scalars.begin(), event.scalars.end());
    EXPECT_EQ(scalars.size(), event.scalars.size()) << "a tag is there twice";
    scalars.erase("train/tokens_per_second");
    results.emplace_back(event.step, scalars);
  }
  return results;
}

TEST(EventLog, SaysWhatTheLinesSay) {
  test::TemporaryFolder folder;
  train(logged_run(folder / "run"), quietly());
  const auto events = results_of(events_of(folder.path() / "run"));
  ASSERT_EQ(events.size(), 1U + 6 + 3) << "the version, six steps, three records";
  std::vector<int64_t> steps;
  for (const auto& [step, scalars] : events) steps.push_back(step);
  EXPECT_EQ(steps, (std::vector<int64_t>{0, 0, 0, 1, 2, 2, 3, 4, 5, 6}));
  std::istringstream losses(read_all(folder.path() / "run/run/loss.jsonl"));
  std::map<int64_t, json> by_step;
  for (std::string line; std::getline(losses, line);)
    by_step[json::parse(line)["step"].get<int64_t>()] = json::parse(line);
  int compared = 0;
  for (const auto& [step, scalars] : events) {
    if (!scalars.contains("train/loss")) continue;
    for (const char* key : {"loss", "lr", "grad_norm"})
      EXPECT_EQ(scalars.at(std::string("train/") + key), by_step.at(step)[key].get<float>());
    ++compared;
  }
  EXPECT_EQ(compared, 6);
  std::istringstream records(read_all(folder.path() / "run/run/metrics.jsonl"));
  std::string line;
  for (int i = 0; i < 3; ++i) std::getline(records, line);
  const json record = json::parse(line), layer = record["layers"][1];
  const std::map<std::string, float>& last = events.back().second;
  EXPECT_EQ(last.at("summary/loss"), record["loss"].get<float>());
  EXPECT_EQ(last.at("summary/sink_rate"), record["summary"]["sink_rate"].get<float>());
  EXPECT_EQ(last.at("layers/1/gradient_sink_ratio"), layer["gradient_sink_ratio"].get<float>());
  const double score =
      (layer["sink_score"][0].get<double>() + layer["sink_score"][1].get<double>()) / 2;
  EXPECT_EQ(last.at("layers/1/sink_score"), static_cast<float>(score));
  EXPECT_EQ(last.at("layers/1/norm.resid_post.sink"), layer["norm"]["resid_post"][0].get<float>());
  EXPECT_GT(last.size(), 100U);
}

// A run that was killed anywhere ends with the events of one that was not.
TEST(EventLog, ResumedRunsHaveEveryEventOnce) {
  test::TemporaryFolder folder;
  train(logged_run(folder / "whole"), quietly());
  const auto whole = results_of(events_of(folder.path() / "whole"));
  for (const char* what : {"as it is", "cut off", "damaged", "gone", "other", "linked"}) {
    const std::string run = folder / fmt::format("run {}", what);
    TrainOptions options = quietly();
    options.on_step = [](const std::string&, int64_t done) {
      if (done == 5) raise(SIGTERM);
    };
    ASSERT_EQ(train(logged_run(run), options).signal, SIGTERM);
    const fs::path file = events_of(run);
    // As if the process had been killed after step 4 was done, whose checkpoint is that of step 4.
    fs::remove_all(fs::path(run) / "run/checkpoints/step000005");
    const std::string before = read_all(file);
    const std::string_view name = what;
    if (name == "cut off") fs::resize_file(file, before.size() - 7);
    if (name == "damaged") {
      std::string bytes = before;
      bytes[200] = static_cast<char>(bytes[200] ^ 1);
      std::ofstream(file, std::ios::binary) << bytes;
    }
    if (name == "gone") fs::remove(file);
    if (name == "other") std::ofstream(file) << "something else";
    if (name == "linked") fs::create_hard_link(file, folder / "copy");
    RunConfig config = logged_run(run);
    options = quietly();
    options.resume = true;
    EXPECT_EQ(train(config, options).signal, 0);
    EXPECT_EQ(results_of(file), whole) << what;
    if (name == "linked") {
      EXPECT_EQ(read_all(folder / "copy"), before) << "the copy stays";
    }
    // What was written before keeps its bytes, and so its time.
    if (name == "as it is" || name == "linked") {
      EXPECT_TRUE(read_all(file).starts_with(before.substr(0, before.size() / 2)));
    }
  }
}

TEST(EventLog, CanBeSwitchedOnForARunThatIsDone) {
  test::TemporaryFolder folder;
  RunConfig config = logged_run(folder / "run");
  config.tensorboard = false;
  train(config, quietly());
  EXPECT_FALSE(fs::exists(events_of(folder.path() / "run")));
  config.tensorboard = true;
  TrainOptions options = quietly();
  options.resume = true;
  train(config, options);
  EXPECT_EQ(results_of(events_of(folder.path() / "run")).size(), 10U);
}

TEST(EventLog, TensorBoardReadsIt) {
  const std::string python = test::peers_with({"tensorboard"});
  if (python.empty()) GTEST_SKIP() << "no tensorboard in the virtual environment of `make peers`";
  test::TemporaryFolder folder;
  const std::string run = folder / "run";
  TrainOptions options = quietly();
  options.on_step = [](const std::string&, int64_t done) {
    if (done == 5) raise(SIGTERM);
  };
  train(logged_run(run), options);
  fs::remove_all(fs::path(run) / "run/checkpoints/step000005");
  options = quietly();
  options.resume = true;
  train(logged_run(run), options);
  const std::string file = events_of(run).string();
  const json read = test::ask_peer(python, "read_events.py", {run + "/run", file});
  EXPECT_EQ(read["stored"], 9);
  std::map<std::string, std::vector<std::pair<int64_t, float>>> expected;
  for (const std::string& content : contents_of(file)) {
    const ScalarEvent event = parse_event(content);
    for (const auto& [tag, scalar] : event.scalars) expected[tag].emplace_back(event.step, scalar);
  }
  ASSERT_EQ(read["scalars"].size(), expected.size());
  for (const auto& [tag, points] : expected) {
    const json& found = read["scalars"].at(tag);
    ASSERT_EQ(found.size(), points.size()) << tag;
    for (size_t i = 0; i < points.size(); ++i) {
      EXPECT_EQ(found[i][0], points[i].first) << tag;
      const float value = std::stof(found[i][1].get<std::string>());
      EXPECT_TRUE(value == points[i].second || (std::isnan(value) && std::isnan(points[i].second)))
          << tag << ": " << found[i][1] << " is not " << points[i].second;
    }
  }
  EXPECT_EQ(read["scalars"]["train/loss"].size(), 6U);
}

}  // namespace
}  // namespace weir
