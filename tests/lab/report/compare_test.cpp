#include "lab/report/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "lab/report/compare_data.h"
#include "lab/report/compare_numbers.h"
#include "lab/report/sample_compare.h"
#include "support/error.h"
#include "testing/error_of.h"
#include "testing/temporary_folder.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class Compare : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  /// Runs of baseline and v-scale with seeds 1 to `count`: run1 ...; their folders.
  std::vector<std::string> write_runs(int64_t count) {
    std::vector<std::string> folders;
    for (int64_t seed = 1; seed <= count; ++seed) {
      const double shift = 0.01 * static_cast<double>(seed);
      folders.push_back(path(fmt::format("run{}", seed)));
      test::write_compared_run(
          folders.back(), seed,
          {test::sinking_arm(shift), test::regulated_arm(shift, 0.02 * static_cast<double>(seed))});
    }
    return folders;
  }

  json record(const std::vector<std::string>& folders, const CompareOptions& options = {}) {
    text_ = compare_record(folders, options);
    return json::parse(text_);
  }

  const test::TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path() / "run";
  std::string text_;
};

// Losses at step 100: 2.01, 2.02, 2.03, of v-scale 0.02, 0.04, 0.06 less.
TEST_F(Compare, HasMediansQuartilesAndPairedDifferencesAtEqualTokens) {
  const json found = record(write_runs(3));
  EXPECT_EQ(found.at("format"), "weir.compare/1");
  EXPECT_EQ(found.at("arms"), json({"baseline", "v-scale"}));
  ASSERT_EQ(found.at("points").size(), 1u);
  const json& point = found.at("points")[0];
  EXPECT_EQ(point.at("tokens"), 100.0 * 32 * 8);
  EXPECT_EQ(point.at("step"), 100);
  const json& base = point.at("arms")[0];
  EXPECT_EQ(base.at("seeds"), json({1, 2, 3}));
  EXPECT_NEAR(base.at("equal_tokens").at("loss").at("median").get<double>(), 2.02, 1e-12);
  EXPECT_NEAR(base.at("equal_tokens").at("loss").at("low_quartile").get<double>(), 2.015, 1e-12);
  EXPECT_NEAR(base.at("equal_tokens").at("loss").at("high_quartile").get<double>(), 2.025, 1e-12);
  EXPECT_TRUE(base.at("difference").is_null());
  const json& difference = point.at("arms")[1].at("difference");
  EXPECT_EQ(difference.at("reference").at("arm"), "baseline");
  const json& loss = difference.at("equal_tokens").at("loss");
  for (size_t i = 0; i < 3; ++i)
    EXPECT_NEAR(loss.at("values")[i].get<double>(), -0.02 * static_cast<double>(i + 1), 1e-12);
  EXPECT_NEAR(loss.at("median").get<double>(), -0.04, 1e-12);
  EXPECT_NEAR(loss.at("low").get<double>(), -0.06, 1e-12);
  EXPECT_NEAR(loss.at("high").get<double>(), -0.02, 1e-12);
  EXPECT_EQ(difference.at("coverage_at_most"), 0.75);
  EXPECT_EQ(difference.at("enough_seeds"), false);
}

// The lowest loss that all reach is that of baseline with seed 3, 2.03 at step 100. Seed 1 has 2.37
// at step 64 and 2.01 at 100, so it is there 34/36 of the way.
TEST_F(Compare, InterpolatesInTheLossAtEqualLoss) {
  const json found = record(write_runs(3));
  const json& point = found.at("points")[0];
  EXPECT_NEAR(point.at("loss").get<double>(), 2.03, 1e-12);
  const json& equal = point.at("arms")[0].at("equal_loss");
  const double steps = 64 + 36 * (2.37 - 2.03) / (2.37 - 2.01);
  EXPECT_NEAR(equal.at("tokens").at("values")[0].get<double>(), steps * 32 * 8, 1e-6);
  EXPECT_NEAR(equal.at("loss").at("values")[0].get<double>(), 2.03, 1e-12);
  EXPECT_NEAR(equal.at("tokens").at("values")[2].get<double>(), 100 * 32 * 8, 1e-6);
  // A loss that is given, and one that nobody reaches.
  EXPECT_NEAR(record(write_runs(3), {.loss = 2.99})
                  .at("points")[0]
                  .at("arms")[0]
                  .at("equal_loss")
                  .at("tokens")
                  .at("values")[0]
                  .get<double>(),
              2 * 32 * 8, 1e-6);
  EXPECT_EQ(record(write_runs(3), {.loss = 1.0})
                .at("points")[0]
                .at("arms")[0]
                .at("equal_loss")
                .at("tokens")
                .at("values")[0],
            "NaN");
}

TEST_F(Compare, CountsOnsetsAndWhatAnArmDoesToThem) {
  const json found = record(write_runs(3));
  const json& arms = found.at("points")[0].at("arms");
  const json& onset = arms[0].at("onsets").at("gradient_sink");
  EXPECT_EQ(onset.at("reached"), 3);
  EXPECT_EQ(onset.at("median_step"), 4.0);
  EXPECT_EQ(arms[0].at("first").at("gradient_sink").at("alone"), 3);
  EXPECT_EQ(arms[0].at("first").at("none"), 0);
  // Of v-scale sink comes first at 8; drain and gradient sink come together at 16.
  EXPECT_EQ(arms[1].at("first").at("sink").at("alone"), 3);
  EXPECT_EQ(arms[1].at("onsets").at("norm_growth").at("never"), 3);
  EXPECT_TRUE(arms[1].at("onsets").at("norm_growth").at("median_step").is_null());
  const json& changes = arms[1].at("difference").at("onsets");
  EXPECT_EQ(changes.at("gradient_sink").at("later"), 3);
  EXPECT_EQ(changes.at("gradient_sink").at("median_step_difference"), 12.0);
  EXPECT_EQ(changes.at("norm_growth").at("removed"), 3);
  EXPECT_EQ(changes.at("sink").at("same"), 3);
  const std::string table = compare_table(text_);
  EXPECT_THAT(table,
              HasSubstr("v-scale: removes norm growth in 3 of 3; delays gradient sink in 3 of "
                        "3 (median +12 steps); leaves attention sink at its step in 3 of 3; "
                        "leaves value drain at its step in 3 of 3."));
}

TEST_F(Compare, TheTableSaysWhatItsIntervalsAreWorth) {
  record(write_runs(3));
  const std::string table = compare_table(text_);
  EXPECT_THAT(table, HasSubstr("At 25,600 tokens (step 100)\n"));
  EXPECT_THAT(table, HasSubstr("At a loss of 2.0300 nats\n"));
  EXPECT_THAT(
      table, HasSubstr("\nloss                          baseline      3  2.0200  2.0150 to 2.0250\n"
                       "                              v-scale       3  1.9800  1.9750 to 1.9850"
                       "     -0.0400      3  -0.0600 to -0.0200 (too few)\n"));
  EXPECT_THAT(table, HasSubstr("with 3 pairs even the whole range of the differences covers their "
                               "true median with a probability of at most 75 %. 6 seeds are needed "
                               "for 95 %."));
  EXPECT_THAT(table, HasSubstr("made of 10000 resamples of the pairs of seeds, with replacement "
                               "(percentiles; generator Philox4x32-10, a stream for each resample, "
                               "seed 1)"));
  record(write_runs(6));
  EXPECT_THAT(compare_table(text_), AllOf(Not(HasSubstr("too few")), HasSubstr("95 % interval")));
}

TEST_F(Compare, TheRecordIsTheSameAgainAndTheCsvHasEveryNumber) {
  const std::vector<std::string> folders = write_runs(2);
  const std::string once = compare_record(folders, {.command = "weir compare"});
  EXPECT_EQ(once, compare_record(folders, {.command = "weir compare"}));
  const std::string csv = compare_csv(once);
  EXPECT_THAT(csv, testing::StartsWith("arm,seed,run,at,step,tokens,quantity,value\n"));
  EXPECT_THAT(csv, HasSubstr(fmt::format("\nbaseline,1,{},step,100,25600,loss,2.01\n",
                                         path("run1/baseline"))));
  EXPECT_THAT(csv, HasSubstr(",equal_loss,,25600,value_ratio,0.2\n"));
  const json found = json::parse(once);
  // Two arms and seeds; every measured step and the point of equal loss; the header.
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'),
            static_cast<std::ptrdiff_t>(1 + 2 * 2 * (test::compared_steps().size() + 1) *
                                                found.at("quantities").size()));
}

TEST_F(Compare, WhatIsNotFinishedOrNotComparableIsNamed) {
  std::vector<std::string> folders = write_runs(2);
  const auto add = [&](const std::string& name, int64_t seed, int64_t last,
                       const nlohmann::ordered_json& keys) {
    folders.push_back(path(name));
    test::write_compared_run(folders.back(), seed, {test::sinking_arm(0)}, last, keys);
  };
  add("unfinished", 3, 32, {});
  add("data", 4, 100, {{"data", {{"kind", "text"}}}});
  add("short", 5, 64, {{"steps", 64}});
  add("unmeasured", 6, 100, {{"measure", {{"metrics", false}}}});
  add("damaged", 7, 100, {});
  test::write_text(folder_ / "damaged/baseline/metrics.jsonl", "{\"step\": 0");
  folders.push_back(path("run1"));
  record(folders);
  const std::string table = compare_table(text_);
  const auto left_out = [&](const std::string& name, int64_t seed, const std::string& why) {
    EXPECT_THAT(table, HasSubstr(fmt::format("Left out: {}, baseline, seed {}. {}",
                                             path(name + "/baseline"), seed, why)));
  };
  left_out("unfinished", 3, "It is not finished: its last measured step is 32 of 100.");
  left_out("data", 4,
           fmt::format("It cannot be compared with {}: the data differ: data.kind=text; there "
                       "data.kind=backcopy.",
                       path("run1/baseline")));
  left_out(
      "short", 5,
      fmt::format("It cannot be compared with {}: the numbers of tokens differ: 64 steps of 32 "
                  "sequences of 8 tokens; there 100 steps of 32 sequences of 8 tokens.",
                  path("run1/baseline")));
  left_out("unmeasured", 6, "It was not measured: measure.metrics=false.");
  left_out("damaged", 7, "[report] ");
  left_out("run1", 1, fmt::format("The same arm and seed are in {}.", path("run1/baseline")));
  EXPECT_EQ(json::parse(text_).at("points")[0].at("arms")[0].at("seeds"), json({1, 2}));
  EXPECT_EQ(json::parse(text_).at("left_out").size(), 7u);
}

TEST_F(Compare, KeysThatDifferMakeAnotherArm) {
  std::vector<std::string> folders = write_runs(2);
  folders.push_back(path("slow"));
  test::write_compared_run(folders.back(), 1, {test::sinking_arm(0)}, 100,
                           {{"optimizer", {{"rate", 0.001}}}, {"threads", 7}});
  EXPECT_EQ(record(folders).at("arms"),
            json({"baseline", "v-scale", "baseline, optimizer.rate=0.001"}));
}

TEST_F(Compare, ArmsThatDifferInTheirSeedsAreReplicates) {
  test::ComparedArm one = test::sinking_arm(0.01), two = test::sinking_arm(0.02),
                    gain = test::sinking_arm(0.03);
  one.name = "a1";
  one.overrides = {{"seed", "1"}};
  two.name = "a2";
  two.overrides = {{"seed", "2"}};
  gain.name = "b1";
  gain.overrides = {{"sink_gradient.gain", "2"}, {"seed", "1"}};
  test::write_compared_run(path("dose"), 42, {one, two, gain});
  const json found = record({path("dose")});
  EXPECT_EQ(found.at("arms"), json({"baseline", "sink_gradient.gain=2"}));
  EXPECT_EQ(found.at("points")[0].at("arms")[0].at("seeds"), json({1, 2}));
  EXPECT_EQ(found.at("points")[0].at("arms")[1].at("difference").at("seeds"), json({1}));
  EXPECT_THAT(
      compare_table(text_),
      HasSubstr("Where an arm shares fewer than 2 seeds with the first there is no interval; "
                "6 are needed for one of 95 %."));
}

TEST_F(Compare, AnArmMayHaveOtherTokensOnPurpose) {
  test::ComparedArm other = test::sinking_arm(0);
  other.name = "no-begin";
  other.overrides = {{"data.begin_token", "none"}};
  test::write_compared_run(path("run"), 1, {test::sinking_arm(0), other});
  const json found = record({path("run")});
  EXPECT_EQ(found.at("arms").size(), 2u);
  EXPECT_TRUE(found.at("left_out").empty());
  EXPECT_THAT(compare_table(text_),
              HasSubstr("no-begin and baseline have different data, as their keys say: "
                        "data.begin_token=none data.kind=backcopy; data.kind=backcopy."));
}

TEST_F(Compare, ASweepHasGridPointsArmsAndSeeds) {
  test::write_sample_sweep(path("sweep"), 3);
  const json found = record({path("sweep")});
  EXPECT_EQ(found.at("arms"), json({"baseline", "v-scale"}));
  ASSERT_EQ(found.at("points").size(), 2u);
  EXPECT_EQ(found.at("points")[1].at("grid").at("optimizer.rate"), 0.001);
  for (const json& point : found.at("points")) {
    ASSERT_EQ(point.at("arms").size(), 2u);
    EXPECT_EQ(point.at("arms")[0].at("seeds"), json({1, 2, 3}));
    EXPECT_EQ(point.at("arms")[1].at("overrides").at("v_scale.variant"), "full");
    EXPECT_EQ(point.at("arms")[1].at("difference").at("reference").at("grid"), point.at("grid"));
  }
  EXPECT_THAT(compare_table(text_), HasSubstr("== optimizer.rate=0.001 ==\n"));
  EXPECT_THAT(compare_csv(text_),
              testing::StartsWith("arm,optimizer.rate,seed,run,at,step,tokens,quantity,value\n"));
  // An entry that nobody has begun.
  fs::remove_all(folder_ / "sweep/runs/00000064");
  record({path("sweep")});
  EXPECT_THAT(
      compare_table(text_),
      AllOf(HasSubstr(fmt::format("Left out: {}, baseline, seed 1. It has not begun.",
                                  path("sweep/runs/00000064"))),
            HasSubstr("v-scale at optimizer.rate=0.01: seeds [1] have no pair in baseline")));
}

// One arm has no other to be compared with; the grid points are compared with the first.
TEST_F(Compare, OneArmOverAGridIsComparedWithItsFirstPoint) {
  test::write_sample_sweep(path("sweep"), 2);
  json sweep = json::parse(std::ifstream(folder_ / "sweep/sweep.json"));
  json& entries = sweep["entries"];
  entries.erase(std::remove_if(entries.begin(), entries.end(),
                               [](const json& entry) { return entry.at("arm") == "v-scale"; }),
                entries.end());
  test::write_text(folder_ / "sweep/sweep.json", sweep.dump());
  const json found = record({path("sweep")});
  ASSERT_EQ(found.at("points").size(), 2u);
  EXPECT_TRUE(found.at("points")[0].at("arms")[0].at("difference").is_null());
  const json& difference = found.at("points")[1].at("arms")[0].at("difference");
  EXPECT_EQ(difference.at("reference").at("grid").at("optimizer.rate"), 0.01);
  EXPECT_NEAR(difference.at("equal_tokens").at("loss").at("median").get<double>(), 0.2, 1e-12);
  EXPECT_THAT(compare_table(text_),
              HasSubstr("A difference is that of an arm to the first grid point, seed by seed"));
}

// A sink that comes with the last two measurements, and numbers that are none.
TEST_F(Compare, OnsetsThatAreNotCertainAndMissingNumbersAreSaid) {
  test::ComparedArm late = test::sinking_arm(0);
  late.name = "late";
  late.at = [](int64_t step) {
    test::ComparedStep numbers = test::sinking_arm(0).at(step);
    numbers.sink_score = step >= 64 ? 0.6 : 0.1;
    numbers.gradient_ratio = std::nan("");
    return numbers;
  };
  test::write_compared_run(path("run"), 1, {test::sinking_arm(0), late});
  const json found = record({path("run")});
  const json& arm = found.at("points")[0].at("arms")[1];
  EXPECT_EQ(arm.at("onsets").at("sink").at("uncertain"), 1);
  EXPECT_EQ(arm.at("onsets").at("sink").at("seeds")[0].at("step"), 64);
  EXPECT_EQ(arm.at("difference").at("onsets").at("sink").at("uncertain"), 1);
  EXPECT_EQ(arm.at("equal_tokens").at("gradient_sink_ratio").at("median"), "NaN");
  EXPECT_EQ(arm.at("onsets").at("gradient_sink").at("never"), 1);
  // A value that there is not is an empty field.
  EXPECT_THAT(compare_csv(text_), HasSubstr(",step,100,25600,gradient_sink_ratio,\n"));
  EXPECT_THAT(compare_page(text_), HasSubstr("not certain 1/1"));
}

TEST_F(Compare, WhatIsNoRunIsAnError) {
  test::write_text(folder_ / "text/notes.txt", "x");
  test::write_text(folder_ / "old/sweep.json", "{\"schema\": \"weir.sweep/9\"}");
  test::write_text(folder_ / "bad/sweep.json",
                   "{\"schema\": \"weir.sweep/1\", \"entries\": [{\"arm\": 1}]}");
  const std::string message =
      test::error_of([&] { compare_record({path("text"), path("old"), path("bad")}, {}); });
  EXPECT_THAT(message,
              AllOf(HasSubstr("text is no folder of a run (it has no run.json) and of no sweep (no "
                              "sweep.json). Give folders that `weir train` or `weir sweep` wrote."),
                    HasSubstr("sweep.json: \"schema\" is \"weir.sweep/9\", and \"weir.sweep/1\" is "
                              "needed."),
                    HasSubstr("bad/sweep.json is damaged: entries[0] needs \"arm\", \"seed\" and "
                              "\"run\".")));
  test::write_compared_run(path("begun"), 1, {test::sinking_arm(0)}, 8);
  EXPECT_THAT(test::error_of([&] { compare_record({path("begun")}, {}); }),
              AllOf(HasSubstr("no trained arm is left to compare. Finish the runs, or give other "
                              "folders."),
                    HasSubstr("It is not finished: its last measured step is 8 of 100.")));
}

TEST_F(Compare, ThePageHoldsTablesWarningsAndNumbers) {
  test::write_sample_sweep(path("sweep"), 3);
  fs::remove_all(folder_ / "sweep/runs/00000064");
  CompareOptions options;
  options.command = "weir compare 'a & b'";
  record({path("sweep")}, options);
  const std::string page = compare_page(text_);
  EXPECT_THAT(page, testing::StartsWith("<!DOCTYPE html>"));
  EXPECT_THAT(page, HasSubstr("<h1>baseline, v-scale</h1>"));
  EXPECT_THAT(page, HasSubstr("weir compare &#39;a &amp; b&#39;"));
  EXPECT_THAT(page, HasSubstr("llama · 1 layer · 1 head · d_model 128"));
  EXPECT_THAT(page, HasSubstr("<section class=\"figure\" id=\"grid\">"));
  EXPECT_THAT(page, HasSubstr("<p class=\"warning\">Left out: "));
  EXPECT_THAT(page, HasSubstr("There are too few seeds for an interval to mean what it says"));
  EXPECT_THAT(page, Not(HasSubstr("{{")));
  EXPECT_THAT(page, Not(HasSubstr("src=\"")));
}

TEST(ComparePlaces, AreReadOffBetweenMeasurements) {
  Curves curves{{0, 10, 20}, {0, 100, 200}, {{3, 2, 1}, {5, 7, 9}}};
  const auto half = at_tokens(curves, 150);
  ASSERT_TRUE(half);
  EXPECT_EQ(value_between(curves.values[1], *half), 8);
  EXPECT_EQ(value_between(curves.values[1], *at_tokens(curves, 100)), 7);
  EXPECT_FALSE(at_tokens(curves, 201));
  EXPECT_EQ(value_between(curves.tokens, *at_loss(curves, 1.25)), 175);
  EXPECT_EQ(value_between(curves.tokens, *at_loss(curves, 4)), 0);
  EXPECT_FALSE(at_loss(curves, 0.5));
  // The first time counts, and a loss that is no number is passed over.
  curves.values[0] = {3, 1, 2};
  EXPECT_EQ(value_between(curves.tokens, *at_loss(curves, 2)), 50);
  curves.values[0] = {3, std::nan(""), 1};
  EXPECT_EQ(value_between(curves.tokens, *at_loss(curves, 2)), 200);
  EXPECT_EQ(lowest_loss(curves), 1);
}

}  // namespace
}  // namespace weir
