// The file of a sweep: its entries, the hash of a run, and every message.
#include "lab/sweep/sweep_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "lab/lab_test_util.h"

namespace weir {
namespace {

using test::error_of;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

SweepPlan plan_of(const std::string& text) {
  UsageProblems problems("sweep");
  SweepPlan plan = read_sweep({text, "a.json"}, problems);
  problems.raise();
  return plan;
}
std::string message_of(const std::string& text) {
  return error_of([&] { plan_of(text); });
}

TEST(SweepPlan, EntriesAreArmsTimesSeedsTimesGrid) {
  const SweepPlan plan = plan_of(R"({
    "base": {"steps": 20, "model": {"layers": 3}},
    "arms": {"baseline": {}, "scaled": {"v_scale.variant": "full"}},
    "seeds": [5, 6],
    "grid": {"optimizer.rate": [0.1, 0.01], "measure.steps": [[0, 1], [2]]}})");
  ASSERT_EQ(plan.entries.size(), 16u);
  EXPECT_EQ(plan.runs().size(), 16u);
  const SweepEntry& entry = plan.entries[13];
  EXPECT_EQ(entry.index, 13);
  EXPECT_EQ(entry.arm, "scaled");
  EXPECT_EQ(entry.seed, 6u);
  EXPECT_EQ(entry.grid.dump(), R"({"optimizer.rate":0.1,"measure.steps":[2]})");
  EXPECT_EQ(entry_text(entry), "arm scaled, seed 6, optimizer.rate 0.1, measure.steps [2]");
  EXPECT_EQ(entry.config.seed, 6u);
  EXPECT_EQ(entry.config.steps, 20);
  EXPECT_EQ(entry.config.model.layers, 3);
  EXPECT_EQ(entry.config.optimizer.rate, 0.1);
  EXPECT_EQ(entry.config.measure.steps, std::vector<int64_t>{2});
  EXPECT_EQ(entry.config.rewrites.v_scale.variant, VScaleVariant::full);
  EXPECT_EQ(plan.runs()[13], &entry);
}

TEST(SweepPlan, WhatIsMissingHasADefault) {
  const SweepPlan plan = plan_of("{}");
  ASSERT_EQ(plan.entries.size(), 1u);
  EXPECT_EQ(plan.entries[0].arm, "baseline");
  EXPECT_EQ(plan.entries[0].seed, RunConfig().seed);
  // A killed run loses a tenth of its steps at most, and keeps one checkpoint.
  EXPECT_EQ(plan.entries[0].config.checkpoint_every, 50);
  EXPECT_EQ(plan.entries[0].config.keep_checkpoints, 1);
  const SweepPlan given = plan_of(R"({"base": {"checkpoint_every": 0, "keep_checkpoints": 0}})");
  EXPECT_EQ(given.entries[0].config.checkpoint_every, 0);
  EXPECT_EQ(given.entries[0].config.keep_checkpoints, 0);
}

TEST(SweepPlan, AnArmSetsANamedModelBehindBase) {
  const SweepPlan plan = plan_of(
      R"({"base": {"model.d_model": 96, "model.heads": 3}, "arms": {"a": {"model": "demo"}}})");
  EXPECT_EQ(plan.entries[0].config.model.d_model, named_model("demo").d_model);
}

TEST(SweepPlan, EqualSettingsAreOneRun) {
  const SweepPlan plan = plan_of(R"({
    "arms": {"a": {}, "b": {"v_scale.variant": "none"}, "c": {"threads": 1, "memory": "4GiB"}},
    "seeds": [1, 2]})");
  ASSERT_EQ(plan.entries.size(), 6u);
  EXPECT_EQ(plan.runs().size(), 2u);
  EXPECT_EQ(plan.entries[0].run, plan.entries[2].run);
  EXPECT_EQ(plan.entries[0].run, plan.entries[4].run);
}

TEST(SweepPlan, TheHashHasAllThatChangesResults) {
  RunConfig config;
  const std::string hash = hash_of_settings(config);
  EXPECT_EQ(hash.size(), 16u);
  std::set<std::string> hashes = {hash};
  RunConfig same = config;
  same.out = "elsewhere";
  same.threads = 3;
  same.memory = "1GiB";
  same.checkpoint_every = 7;
  same.keep_checkpoints = 2;
  EXPECT_EQ(hash_of_settings(same), hash);
  const auto differs = [&](const std::string& word) {
    EXPECT_TRUE(hashes.insert(hash_of_settings(parse_config("", {word}))).second) << word;
  };
  for (const char* word :
       {"seed=7", "steps=501", "batch=16", "micro_batches=2", "optimizer.rate=0.02",
        "on_nonfinite=continue", "data.symbols=65", "measure.every=400", "model.layers=3",
        "v_scale.variant=full", "attention=softmax-1"})
    differs(word);
}

TEST(SweepPlan, TheWrittenPlanReadsBackToTheSame) {
  const SweepPlan plan = plan_of(
      R"({"base": {"model": {"layers": 3}}, "arms": {"a": {}}, "seeds": [1],
          "grid": {"optimizer": {"rate": [0.1, 1e-3]}}})");
  const std::string text = sweep_json(plan);
  EXPECT_EQ(sweep_json(plan_of(text)), text);
  const auto json = nlohmann::ordered_json::parse(text);
  EXPECT_EQ(json["schema"], "weir.sweep/1");
  EXPECT_EQ(json["base"].dump(), R"({"model.layers":3})");
  EXPECT_EQ(json["grid"].dump(), R"({"optimizer.rate":[0.1,0.001]})");
  EXPECT_EQ(json["entries"][1]["grid"].dump(), R"({"optimizer.rate":0.001})");
  EXPECT_EQ(json["entries"][1]["run"], plan.entries[1].run);
}

TEST(SweepPlan, AnotherVersionsRunsAreRefused) {
  auto json = nlohmann::ordered_json::parse(sweep_json(plan_of("{}")));
  json["entries"][0]["run"] = "0123456789abcdef";
  EXPECT_EQ(message_of(json.dump()),
            "[sweep] its entries are not those that its settings give: it was changed by hand, or "
            "another version of Weir made it, whose runs may differ. Go on with that version, or "
            "give base, arms, seeds and grid to a sweep in another folder (--out).");
  json["schema"] = "weir.sweep/2";
  EXPECT_THAT(message_of(json.dump()),
              HasSubstr("schema is weir.sweep/2, but this version of Weir reads weir.sweep/1."));
}

TEST(SweepPlan, AllMistakesAreSaidAtOnce) {
  const std::string message = message_of(R"({
    "base": {"stepz": 10, "out": "x", "batch": 0},
    "arms": {"a/b": {}, "scaled": {"v_scale.varient": "full", "optimizer.rate": -1},
             "two": {"seed": 3}},
    "seeds": [1, 1, -2, "x"],
    "grid": {"lr": [0.1], "batch": 8, "length": [64, 64], "attention": ["softmax", "softmx"],
             "optimizer.rate": []},
    "gird": {}})");
  for (const char* part :
       {"[sweep] ", " problems:", "a sweep has no member 'gird'. Did you mean grid?",
        "base: unknown key 'stepz'. Did you mean steps", "base: out is set by the sweep",
        "base: batch is '0', but a whole number from 1",
        "arm name 'a/b': a name that can name a folder is needed.",
        "arm scaled: unknown key 'v_scale.varient'. Did you mean v_scale.variant",
        "arm scaled: optimizer.rate is '-1', but a number",
        "arm two: seed is set by the sweep. Give \"seeds\": [1, 2, 3].",
        "seeds: 1 is there twice; give it once.", "seeds: -2 is no whole number from 0 on.",
        "seeds: x is no whole number from 0 on.",
        "grid: unknown key 'lr'. Did you mean optimizer.rate?",
        "grid: batch is 8, but a list of values is needed: [value, value].",
        "grid: length has 64 twice; give it once.", "grid: attention is 'softmx'",
        "grid: optimizer.rate is [], but a list of values is needed"})
    EXPECT_THAT(message, HasSubstr(part));
}

TEST(SweepPlan, WhatDoesNotFitTogetherIsNamedByArmAndPoint) {
  EXPECT_EQ(message_of(R"({"arms": {"a": {"micro_batches": 4}, "b": {}},
                           "grid": {"batch": [8, 6]}})"),
            "[sweep] arm a, batch 6: batch 6 is no multiple of micro_batches 4.");
  EXPECT_EQ(message_of(R"({"base": {"measure.sink_token": 500}, "seeds": [1, 2],
                           "arms": {"a": {}, "b": {}}})"),
            "[sweep] measure.sink_token is 500, but length is 128: 0 to 127 are there.");
  // Base alone need not fit.
  EXPECT_EQ(message_of(R"({"base": {"micro_batches": 3}, "grid": {"batch": [6, 9]}})"), "no error");
}

TEST(SweepPlan, AKeyOfArmAndGridIsRefused) {
  EXPECT_EQ(message_of(R"({"arms": {"a": {"batch": 4}}, "grid": {"batch": [8, 6]}})"),
            "[sweep] batch is set by arm a and by the grid. Leave it out of one of them, or make "
            "two sweeps.");
}

TEST(SweepPlan, WrongFormsAreSaid) {
  EXPECT_THAT(message_of("[1]"), HasSubstr("[sweep] a.json is no JSON object. Give {\"base\": "));
  EXPECT_THAT(message_of("{\"base\": 1"), HasSubstr("a.json"));
  EXPECT_THAT(message_of(R"({"base": 1, "arms": [], "seeds": 3, "grid": 2})"),
              AllOf(HasSubstr("base: 1 is no object of keys and values."),
                    HasSubstr("arms is [], but an object is needed"),
                    HasSubstr("seeds is 3, but a list of seeds is needed: [1, 2, 3]."),
                    HasSubstr("grid is 2, but an object is needed: {key: [values]}.")));
  EXPECT_THAT(message_of(R"({"base": {"arms": "a; b"}})"),
              HasSubstr("base: arms belongs to the sweep itself"));
}

TEST(SweepPlan, TooManyEntriesAreRefused) {
  std::string seeds;
  for (int i = 0; i < 400; ++i) seeds += (i ? "," : "") + std::to_string(i);
  EXPECT_EQ(
      message_of("{\"seeds\": [" + seeds + "], \"grid\": {\"batch\": [" + seeds.substr(2) + "]}}"),
      "[sweep] arms x seeds x grid are 159600 entries; at most 10000 are possible. Make "
      "several sweeps.");
}

TEST(SweepPlan, TheExamplesAreRead) {
  const std::filesystem::path folder =
      std::filesystem::path(WEIR_TEST_DATA) / "../../examples/experiments";
  const std::filesystem::path file = folder / "v_scale.json";
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  EXPECT_EQ(plan_of(text.str()).runs().size(), 12u);
}

}  // namespace
}  // namespace weir
