// Which checkpoints a series is of, and what is refused.
#include "lab/experiments/checkpoint_series.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "lab/lab_test_util.h"
#include "lab/measure/measure.h"
#include "lab/train/train.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::read_all;
using test::tiny_run;
using ::testing::AllOf;
using ::testing::HasSubstr;

const test::TestCache cache;

TEST(StepInName, IsThatOfPublicTrainingSuites) {
  const std::vector<std::pair<std::string, int64_t>> names = {{"step1000", 1000},
                                                              {"runs/x/step000500/", 500},
                                                              {"global_step143000", 143000},
                                                              {"checkpoint-1500", 1500},
                                                              {"iter_0001000", 1000},
                                                              {"step1000-tokens2B", 1000},
                                                              {"Step_20", 20},
                                                              {"ckpt.7", 7},
                                                              {"pythia-step3000.gguf", 3000},
                                                              {"0", 0},
                                                              {"step5000-unsharded", 5000},
                                                              {"checkpoint-step-12", 12}};
  for (const auto& [name, step] : names) EXPECT_EQ(step_in_name(name), step) << name;
  for (const char* name : {"latest", "model-7b", "step", "footstep5", "step5k", "iter5-step6",
                           "step99999999999999999999", "checkpoints", "", "run2"})
    EXPECT_EQ(step_in_name(name), std::nullopt) << name;
}

// A run of 6 steps with checkpoints 2, 4, 6.
class Series : public ::testing::Test {
 protected:
  static void make_run(const std::string& out, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = {"checkpoint_every=2", "measure.metrics=false"};
    words.insert(words.end(), more.begin(), more.end());
    TrainOptions options;
    options.quiet = true;
    train(tiny_run(out, words), options);
  }
  static std::vector<int64_t> steps_of(const CheckpointSeries& series) {
    std::vector<int64_t> steps;
    for (const SeriesMember& member : series.members()) steps.push_back(member.step);
    return steps;
  }
  std::string error_with(const std::vector<std::string>& words) const {
    return error_of([&] { CheckpointSeries("measure", words); });
  }

  test::TemporaryFolder folder_;
};

TEST_F(Series, IsGivenByGlobFolderOrList) {
  make_run(folder_ / "run");
  const std::string checkpoints = folder_ / "run/run/checkpoints";
  const std::vector<int64_t> all = {2, 4, 6};
  EXPECT_EQ(steps_of(CheckpointSeries("measure", {checkpoints + "/*"})), all);
  EXPECT_EQ(steps_of(CheckpointSeries("measure", {checkpoints})), all);
  EXPECT_EQ(steps_of(CheckpointSeries("measure",
                                      {checkpoints + "/step000006", checkpoints + "/step000002/"})),
            (std::vector<int64_t>{2, 6}));
  EXPECT_EQ(steps_of(CheckpointSeries("measure", {checkpoints, checkpoints + "/step00000[24]"})),
            all)
      << "one that is named twice is there once";
  for (const std::string& word : {checkpoints, checkpoints + "/*"})
    EXPECT_TRUE(names_series({word})) << word;
  EXPECT_FALSE(names_series({checkpoints + "/step000002"}));
  EXPECT_FALSE(names_series({folder_ / "absent"}));
  EXPECT_TRUE(models_behind(folder_ / "absent*").empty());
  // Folders as other programs name them: steps sort as numbers, not as texts.
  const fs::path suite = folder_ / "suite";
  fs::create_directory(suite);
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"2", "global_step1000"}, {"4", "global_step900"}, {"6", "global_step20"}}) {
    fs::copy(fs::path(checkpoints) / ("step00000" + from), suite / to);
    fs::remove(suite / to / "state.json");
  }
  std::ofstream(suite / "latest") << "global_step1000";
  fs::create_directory(suite / "logs");
  fs::create_directory_symlink("global_step1000", suite / "a-link-to-the-last");
  EXPECT_EQ(steps_of(CheckpointSeries(
                "measure", {(suite / "*_step*").string(), (suite / "a-link*").string()})),
            (std::vector<int64_t>{20, 900, 1000}));
  EXPECT_EQ(steps_of(CheckpointSeries("measure", {(suite / "a-link*").string()})),
            std::vector<int64_t>{1000});
  fs::remove(suite / "a-link-to-the-last");
  EXPECT_EQ(steps_of(CheckpointSeries("measure", {suite.string()})),
            (std::vector<int64_t>{20, 900, 1000}));
  // A state of the trainer of transformers counts where the name says nothing.
  fs::rename(suite / "global_step20", suite / "start");
  std::ofstream(suite / "start/trainer_state.json") << R"({"epoch": 1, "global_step": 7})";
  EXPECT_EQ(steps_of(CheckpointSeries("measure", {(suite / "start").string(), suite.string()})),
            (std::vector<int64_t>{7, 900, 1000}));
}

TEST_F(Series, MayBeFilesOfOneFolder) {
  const std::string model = std::string(WEIR_TEST_DATA) + "/models/qwen3/qwen3.gguf";
  fs::copy_file(model, folder_ / "step20.gguf");
  EXPECT_FALSE(names_series({folder_.path().string()})) << "a folder with one model";
  fs::copy_file(model, folder_ / "step3.gguf");
  for (const std::string& word : {folder_.path().string(), folder_ / "*.gguf"})
    EXPECT_EQ(steps_of(CheckpointSeries("measure", {word})), (std::vector<int64_t>{3, 20}));
  fs::copy_file(model, folder_ / "other.gguf");
  EXPECT_THAT(error_with({folder_.path().string()}), HasSubstr("holds 3 models: "));
}

TEST_F(Series, EverythingWrongIsSaidAtOnce) {
  make_run(folder_ / "run");
  const fs::path checkpoints = folder_ / "run/run/checkpoints";
  fs::copy(checkpoints / "step000002", checkpoints / "step000003");
  fs::copy(checkpoints / "step000004", checkpoints / "nameless");
  fs::remove(checkpoints / "nameless/state.json");
  std::string weights = read_all(checkpoints / "step000004/model.safetensors");
  weights[weights.size() - 5] = static_cast<char>(weights[weights.size() - 5] ^ 1);
  std::ofstream(checkpoints / "step000004/model.safetensors", std::ios::binary) << weights;
  fs::resize_file(checkpoints / "step000006/model.safetensors", 2000);
  const std::string error = error_with({(checkpoints / "*").string(), folder_ / "none*"});
  EXPECT_THAT(error, HasSubstr("[measure] 5 problems:"));
  EXPECT_THAT(error, HasSubstr("step000003 is of step 2 by its own state, but of step 3 by its "
                               "name. Give it the name of its step, or leave it out."));
  EXPECT_THAT(error, HasSubstr("nameless does not say of which step it is: neither a state in it "
                               "(state.json, trainer_state.json) nor its name, such as step1000"));
  EXPECT_THAT(error, AllOf(HasSubstr("step000004/model.safetensors is damaged: its hash is "),
                           HasSubstr("Put the file back, or leave the checkpoint out.")));
  EXPECT_THAT(error, HasSubstr("step000006/model.safetensors: truncated"));
  EXPECT_THAT(error, HasSubstr("none* matches no folder and no .gguf file."));
}

TEST_F(Series, AllMembersAreOneModel) {
  make_run(folder_ / "a");
  make_run(folder_ / "b", {"model.layers=3"});
  make_run(folder_ / "c", {"v_scale.variant=full"});
  const std::string a = folder_ / "a/run/checkpoints/step00000",
                    b = folder_ / "b/run/checkpoints/step00000",
                    c = folder_ / "c/run/checkpoints/step00000";
  const std::string error = error_with({a + "2", a + "4", b + "6", c + "4"});
  EXPECT_THAT(error, HasSubstr("[measure] 2 problems:"));
  EXPECT_THAT(error, HasSubstr(fmt::format("{}4 and {}4 are both of step 4. Leave one of them out.",
                                           a, c)));
  EXPECT_THAT(error, HasSubstr("the checkpoints of a series are measured by one program, but there "
                               "are 3 kinds of models: "));
  EXPECT_THAT(error, HasSubstr(fmt::format("num_hidden_layers 2, weir_rewrites absent ({}2, "
                                           "{}4)",
                                           a, a)));
  EXPECT_THAT(error, HasSubstr(fmt::format("num_hidden_layers 3, weir_rewrites absent ({}6)", b)));
  EXPECT_THAT(error, HasSubstr(fmt::format("{{\"v_scale.variant\":\"full\"}} ({}4)", c)));
  EXPECT_THAT(error, HasSubstr("Measure each kind by itself."));
}

// One program, whose weights are read again, has the bits of a program for each checkpoint.
TEST_F(Series, RecordsAreThoseOfSingleMeasurements) {
  make_run(folder_ / "run", {"v_scale.variant=learned"});
  CheckpointSeries series("measure", {folder_ / "run/run/checkpoints"});
  const ModelSource source = series.source();
  TokenBatch batch{4, 12, std::vector<int32_t>(48), std::vector<int32_t>(48), {}};
  for (size_t i = 0; i < 48; ++i) {
    batch.tokens[i] = static_cast<int32_t>(i * 5 % 9);
    batch.targets[i] = static_cast<int32_t>(i * 7 % 9);
  }
  MeasureTask task{.run = {.threads = 2}, .keep_loaded = true};
  task.options.target = host_target();
  task.options.rewrites = trained_rewrites(*series.last().checkpoint);
  Measurer measurer(source, batch, task);
  std::vector<std::string> records;
  for (int again = 0; again < 2; ++again)
    for (const SeriesMember& member : series.members()) {
      series.choose(member);
      measurer.take({member.checkpoint->name(), member.step, ""});
      records.push_back(measurer.measure().record);
    }
  for (size_t i = 0; i < 3; ++i) {
    const SeriesMember& member = series.members()[i];
    EXPECT_EQ(records[i], records[i + 3]);
    const ModelSource single = checkpoint_source(member.checkpoint);
    MeasureTask alone = task;
    alone.keep_loaded = false;
    Measurer one(single, batch, alone);
    one.take({member.checkpoint->name(), member.step, ""});
    EXPECT_EQ(records[i], one.measure().record);
    EXPECT_THAT(records[i], HasSubstr(fmt::format("\"step\":{}", member.step)));
  }
  EXPECT_NE(records[0], records[1]);
}

}  // namespace
}  // namespace weir
