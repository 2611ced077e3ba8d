// The folder of a run: what is removed, who may write, what is repaired.
#include "lab/train/run_place.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>

#include <csignal>
#include <limits>
#include <nlohmann/json.hpp>

#include "lab/fill_weight.h"
#include "lab/lab_test_util.h"
#include "lab/measure/model_source.h"
#include "lab/train/check_run.h"
#include "lab/train/checkpoint.h"
#include "lab/train/initial_weights.h"
#include "lab/train/run_folder.h"
#include "lab/train/step_lines.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::read_all;
using test::TemporaryFolder;
using test::tiny_run;
using ::testing::HasSubstr;
using ::testing::Not;

const test::TestCache cache;

TrainOptions quietly() {
  TrainOptions options;
  options.quiet = true;
  return options;
}
TrainOptions resuming() {
  TrainOptions options = quietly();
  options.resume = true;
  return options;
}
TrainOptions overwriting() {
  TrainOptions options = quietly();
  options.overwrite = true;
  return options;
}

// Results without the speed, which is none.
std::string results_of(const fs::path& arm) {
  std::string text = read_all(arm / "metrics.jsonl");
  std::istringstream lines(read_all(arm / "loss.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    auto json = nlohmann::ordered_json::parse(line);
    json.erase("tokens_per_second");
    text += json.dump() + "\n";
  }
  for (const fs::path& checkpoint : list_checkpoints(arm / "checkpoints"))
    text += checkpoint.filename().string() + read_all(checkpoint / "model.safetensors") +
            read_all(checkpoint / "optimizer.safetensors");
  return text;
}

std::vector<std::string> lines_of(const fs::path& file) {
  std::vector<std::string> lines;
  std::istringstream text(read_all(file));
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}
void write_lines(const fs::path& file, const std::vector<std::string>& lines) {
  std::ofstream stream(file);
  for (const std::string& line : lines) stream << line << "\n";
}

TEST(RunPlace, OnlyWhatWeirWroteIsReplaced) {
  TemporaryFolder folder;
  const fs::path run = folder.path() / "run";
  train(tiny_run(run.string(), {"arms=a; b", "checkpoint_every=2"}), quietly());
  std::ofstream(run / "thesis.txt") << "thesis";
  std::ofstream(run / "a" / "notes.txt") << "notes";
  std::ofstream(run / "b" / "checkpoints" / "step000004" / "scores.json") << "{}";
  fs::create_directory(run / "figures");
  fs::create_directory_symlink(folder.path(), run / "elsewhere");
  std::ofstream(folder / "outside.txt") << "outside";
  train(tiny_run(run.string(), {"steps=3"}), overwriting());
  EXPECT_EQ(read_all(run / "thesis.txt"), "thesis");
  EXPECT_EQ(read_all(run / "a" / "notes.txt"), "notes");
  EXPECT_EQ(read_all(run / "b" / "checkpoints" / "step000004" / "scores.json"), "{}");
  EXPECT_EQ(read_all(folder / "outside.txt"), "outside");
  EXPECT_TRUE(fs::is_directory(run / "figures"));
  EXPECT_FALSE(fs::exists(run / "a" / "loss.jsonl"));
  EXPECT_FALSE(fs::exists(run / "b" / "checkpoints" / "step000004" / "state.json"));
  EXPECT_FALSE(fs::exists(run / "b" / "checkpoints" / "step000002"));
  EXPECT_TRUE(fs::exists(run / "run" / "complete"));
  EXPECT_FALSE(fs::exists(run / "lock"));
  // All that is left of the two runs is known.
  EXPECT_EQ(Manifest::read(run).unlisted(),
            (std::vector<std::string>{"a/notes.txt", "b/checkpoints/step000004/scores.json",
                                      "elsewhere", "thesis.txt"}));
}

TEST(RunPlace, NothingIsRemovedForARunThatCannotStart) {
  TemporaryFolder folder;
  const fs::path run = folder.path() / "run";
  train(tiny_run(run.string()), quietly());
  const std::string before = results_of(run / "run");
  const auto refused = [&](const std::vector<std::string>& words) {
    return error_of([&] { train(tiny_run(run.string(), words), overwriting()); });
  };
  EXPECT_THAT(refused({"data.kind=text", "data.files=" + (folder / "none.txt")}),
              HasSubstr("none.txt"));
  EXPECT_THAT(refused({"model.d_ff=1048576", "model.layers=1024"}), HasSubstr("may be used"));
  EXPECT_THAT(refused({"arms=small; large: model.d_ff=1048576 model.layers=1024"}),
              HasSubstr("may be used"));
  EXPECT_THAT(refused({"measure.probes=blocks.0.atn.hook_v"}), HasSubstr("matches no hook"));
  EXPECT_EQ(results_of(run / "run"), before);
}

TEST(RunPlace, ARunStaysWhereItsReplacementLacksText) {
  TemporaryFolder folder;
  train(tiny_run(folder / "run"), quietly());
  const std::string before = results_of(folder.path() / "run/run");
  std::ofstream(folder / "short.txt") << "too short";
  const auto refused = [&](const std::vector<std::string>& words) {
    const std::string text =
        error_of([&] { train(tiny_run(folder / "run", words), overwriting()); });
    EXPECT_EQ(results_of(folder.path() / "run/run"), before);
    return text;
  };
  EXPECT_THAT(refused({"data.kind=text", "data.files=" + (folder / "short.txt")}),
              HasSubstr("but a sequence of length 12 needs 13"));
  // Its own weights would be gone before they are read.
  const std::string weights = folder / "run/run/checkpoints/step000006";
  EXPECT_THAT(refused({"init=" + weights}), HasSubstr("is in the folder of the run"));
  fs::create_symlink(weights, folder / "link");
  EXPECT_THAT(refused({"init=" + (folder / "link")}), HasSubstr("is in the folder of the run"));
  for (const char* name : {"lock", "config.json", "run.json", "manifest.jsonl", "report.html"})
    EXPECT_THAT(refused({std::string("arms=") + name}),
                HasSubstr("is the name of a file of every run."));
}

TEST(RunPlace, ARunStaysWhereItsReplacementTakesItsTokenizer) {
  TemporaryFolder folder;
  std::ofstream(folder / "text.txt") << std::string(1000, 'a');
  const std::vector<std::string> text = {"data.kind=text", "data.files=" + (folder / "text.txt")};
  train(tiny_run(folder / "run", text), quietly());
  const std::string before = results_of(folder.path() / "run/run");
  const std::string checkpoint = folder / "run/run/checkpoints/step000006";
  for (const std::string& tokenizer : {checkpoint, checkpoint + "/tokenizer.json"})
    for (const std::string& word :
         {"data.tokenizer=" + tokenizer, "arms=a; run: data.tokenizer=" + tokenizer}) {
      std::vector<std::string> words = text;
      words.push_back(word);
      EXPECT_EQ(error_of([&] { train(tiny_run(folder / "run", words), overwriting()); }),
                "[train] data.tokenizer=" + tokenizer +
                    " is in the folder of the run that would be replaced. Choose another folder "
                    "with out=FOLDER.");
      EXPECT_EQ(results_of(folder.path() / "run/run"), before);
    }
  // What Weir did not write stays there, and can be used.
  fs::create_directories(folder / "run/mine");
  fs::copy_file(checkpoint + "/tokenizer.json", folder / "run/mine/tokenizer.json");
  std::vector<std::string> words = text;
  words.push_back("data.tokenizer=" + (folder / "run/mine"));
  train(tiny_run(folder / "run", words), overwriting());
  EXPECT_EQ(results_of(folder.path() / "run/run"), before);
}

TEST(RunPlace, TheStepOfACheckpointIsThatOfItsFolder) {
  TemporaryFolder folder;
  train(tiny_run(folder / "run"), quietly());
  const fs::path state = folder.path() / "run/run/checkpoints/step000006/state.json";
  for (const char* step : {"-8", "800000"}) {
    auto json = nlohmann::ordered_json::parse(read_all(state));
    json["step"] = std::stoll(step);
    std::ofstream(state) << json.dump();
    fs::remove(folder.path() / "run/run/complete");
    EXPECT_THAT(error_of([&] { train(tiny_run(folder / "run"), resuming()); }),
                HasSubstr("is damaged: it is of step " + std::string(step)));
  }
}

TEST(RunPlace, TheCurrentFolderCanBeARun) {
  TemporaryFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  train(tiny_run(".", {"steps=2"}), quietly());
  std::ofstream("mine.txt") << "mine";
  train(tiny_run(".", {"steps=3"}), overwriting());
  fs::current_path(before);
  EXPECT_EQ(read_all(folder / "mine.txt"), "mine");
  EXPECT_EQ(lines_of(folder / "run/loss.jsonl").size(), 3u);
}

TEST(RunPlace, FilesOfOthersThatAreInTheWayAreNamed) {
  TemporaryFolder folder;
  const fs::path run = folder.path() / "run";
  train(tiny_run(run.string(), {"steps=1"}), quietly());
  fs::create_directories(run / "wide/checkpoints/step000009");
  std::ofstream(run / "wide/checkpoints/step000009/state.json") << "{}";
  std::ofstream(run / "deep") << "a file";
  const std::string text = error_of(
      [&] { train(tiny_run(run.string(), {"steps=1", "arms=wide; deep"}), overwriting()); });
  EXPECT_THAT(text, HasSubstr("did not write: deep, wide/checkpoints/step000009/state.json. Move"));
  EXPECT_TRUE(fs::exists(run / "run/complete"));
  fs::remove(run / "manifest.jsonl");
  EXPECT_THAT(error_of([&] { train(tiny_run(run.string(), {"steps=1"}), overwriting()); }),
              HasSubstr("has no manifest.jsonl, so it is not known which of the files are Weir's"));
  EXPECT_TRUE(fs::exists(run / "run/complete"));
  // A run whose manifest is lost can be resumed all the same.
  EXPECT_EQ(train(tiny_run(run.string(), {"steps=1"}), resuming()).signal, 0);
}

TEST(RunPlace, AKeyThatAStateFileHasTwiceIsDamage) {
  TemporaryFolder folder;
  const fs::path run = folder.path() / "run";
  train(tiny_run(run.string(), {"steps=2", "optimizer.schedule=constant"}), quietly());
  const auto damaged = [&](const fs::path& file, const TrainOptions& options) {
    const std::string good = read_all(run / file);
    const size_t begin = good.rfind('{') + 1;
    std::ofstream(run / file) << good.substr(0, begin) + "\"a\":\"b\",\"a\":\"c\"," +
                                     good.substr(begin);
    const std::string text = error_of([&] {
      train(tiny_run(run.string(), {"steps=3", "optimizer.schedule=constant"}), options);
    });
    std::ofstream(run / file) << good;
    return text;
  };
  EXPECT_THAT(damaged("run.json", resuming()),
              HasSubstr("run.json is damaged: an object in it has the key \"a\" twice. Start the"));
  EXPECT_THAT(damaged("run/checkpoints/step000002/state.json", resuming()),
              HasSubstr("state.json is damaged: an object in it has the key \"a\" twice. There"));
  EXPECT_THAT(damaged("manifest.jsonl", overwriting()),
              HasSubstr("is damaged, so it is not known what Weir wrote"));
}

TEST(RunPlace, AManifestNeverLeadsOutOfItsFolder) {
  TemporaryFolder folder;
  const fs::path run = folder.path() / "run";
  train(tiny_run(run.string(), {"steps=1"}), quietly());
  std::ofstream(folder / "outside.txt") << "outside";
  for (const std::string& path : {std::string("../outside.txt"), folder / "outside.txt"}) {
    const std::string good = read_all(run / "manifest.jsonl");
    std::ofstream(run / "manifest.jsonl", std::ios::app) << "{\"file\":\"" << path << "\"}\n";
    EXPECT_THAT(error_of([&] { train(tiny_run(run.string(), {"steps=1"}), overwriting()); }),
                HasSubstr("is damaged, so it is not known what Weir wrote"));
    std::ofstream(run / "manifest.jsonl") << good;
  }
  // A folder of the run that has become a link is not followed.
  fs::create_directory(folder / "other");
  fs::rename(run / "run", folder.path() / "other" / "run");
  fs::create_directory_symlink(folder.path() / "other" / "run", run / "run");
  EXPECT_THAT(error_of([&] { train(tiny_run(run.string(), {"steps=1"}), overwriting()); }),
              Not(HasSubstr("internal error")));
  EXPECT_TRUE(fs::exists(folder / "other/run/complete"));
  EXPECT_EQ(read_all(folder / "outside.txt"), "outside");
}

TEST(RunPlace, ASecondProcessGetsAMessage) {
  TemporaryFolder folder;
  const fs::path run = folder.path() / "run";
  train(tiny_run(run.string(), {"steps=2"}), quietly());
  const pid_t child = fork();
  if (child == 0) {
    const RunLock lock(run, "weir train resume=run");
    while (true) pause();
  }
  while (lines_of(run / "lock").empty()) usleep(1000);
  const std::string text =
      error_of([&] { train(tiny_run(run.string(), {"steps=2"}), resuming()); });
  EXPECT_THAT(text, HasSubstr("is in use by process " + std::to_string(child) + " on host "));
  EXPECT_THAT(text, HasSubstr("(weir train resume=run). Wait until that has ended"));
  EXPECT_THAT(error_of([&] { train(tiny_run(run.string(), {"steps=2"}), overwriting()); }),
              HasSubstr("is in use by process"));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(fs::exists(run / "lock"));
  train(tiny_run(run.string(), {"steps=2"}), resuming());
  EXPECT_FALSE(fs::exists(run / "lock"));
}

TEST(RunPlace, DamagedFilesAreRepairedFromACheckpoint) {
  TemporaryFolder folder;
  const std::vector<std::string> words = {"steps=8", "checkpoint_every=2", "measure.steps=0,3,5,8"};
  train(tiny_run(folder / "whole", words), quietly());
  const std::string whole = results_of(folder.path() / "whole/run");
  const auto repaired = [&](const std::string& name, const std::string& file, auto damage) {
    const fs::path run = folder.path() / name;
    fs::copy(folder.path() / "whole", run, fs::copy_options::recursive);
    std::vector<std::string> lines = lines_of(run / "run" / file);
    damage(lines);
    write_lines(run / "run" / file, lines);
    train(tiny_run(run.string(), words), resuming());
    EXPECT_TRUE(results_of(run / "run") == whole) << name;
  };
  using Lines = std::vector<std::string>;
  repaired("twice", "loss.jsonl", [](Lines& lines) { lines.insert(lines.begin() + 5, lines[4]); });
  repaired("again", "loss.jsonl", [](Lines& lines) { lines.push_back(lines[3]); });
  repaired("missing", "loss.jsonl", [](Lines& lines) { lines.erase(lines.begin() + 5); });
  repaired("first", "loss.jsonl", [](Lines& lines) { lines.erase(lines.begin()); });
  repaired("cut", "loss.jsonl", [](Lines& lines) { lines[6].resize(9); });
  repaired("empty", "loss.jsonl", [](Lines& lines) { lines.clear(); });
  repaired("record", "metrics.jsonl", [](Lines& lines) { lines.erase(lines.begin() + 2); });
  repaired("last", "metrics.jsonl", [](Lines& lines) { lines.pop_back(); });
  repaired("null", "loss.jsonl", [](Lines& lines) { lines[2] = R"({"step":2,"loss":null})"; });
  repaired("less", "loss.jsonl",
           [](Lines& lines) { lines.insert(lines.begin(), R"({"step":-1,"loss":1})"); });
  repaired("more", "loss.jsonl", [](Lines& lines) { lines.push_back(R"({"step":8,"loss":1})"); });
  repaired("other", "metrics.jsonl",
           [](Lines& lines) { lines.insert(lines.begin() + 1, R"({"step":1,"loss":1})"); });
  for (const char* part : {"layers", "norm", "sink_score", "settings"})
    repaired(part, "metrics.jsonl", [&](Lines& lines) {
      auto record = nlohmann::ordered_json::parse(lines[1]);
      auto& layer = record["layers"][0];
      if (record.contains(part))
        record[part] = nlohmann::ordered_json::array();
      else if (std::string(part) == "norm")
        layer[part]["value"] = "large";
      else
        layer[part].push_back(0.9);
      lines[1] = record.dump();
    });
  repaired("two", "metrics.jsonl", [](Lines& lines) { lines.push_back(lines[1]); });
}

TEST(RunPlace, TheDataOfAResumedRunAreTheSame) {
  TemporaryFolder folder;
  const std::string text = folder / "a.txt";
  std::ofstream(text) << std::string(2000, 'a') + "the end";
  for (const auto& [name, words] : {std::pair<std::string, std::vector<std::string>>{
                                        "text", {"data.kind=text", "data.files=" + text}},
                                    {"bigrams", {"data.bigrams=" + text}}}) {
    TrainOptions cut = quietly();
    cut.on_step = [](const std::string&, int64_t done) {
      if (done == 3) throw 3;
    };
    const RunConfig config = tiny_run(folder / name, words);
    EXPECT_THROW(train(config, cut), int);
    std::ofstream(text, std::ios::app) << "!";
    EXPECT_THAT(error_of([&] { train(config, resuming()); }),
                HasSubstr("the data of arm run are not those that the run was started with"));
    fs::resize_file(text, fs::file_size(text) - 1);
    EXPECT_EQ(train(config, resuming()).step, 6) << name;
    const auto run = nlohmann::json::parse(read_all(folder / name + "/run.json"));
    EXPECT_EQ(run.at("arms").at(0).at("data").at("hash").get<std::string>().size(), 32u);
    EXPECT_EQ(run.at("resumed").size(), 1u);
  }
}

TEST(RunPlace, StepsMayBeRaisedWhereTheRateAllowsIt) {
  TemporaryFolder folder;
  const auto run = [&](const std::string& name, const std::vector<std::string>& words,
                       const TrainOptions& options) {
    train(tiny_run(folder / name, words), options);
    return results_of(folder.path() / name / "run");
  };
  const std::string constant = "optimizer.schedule=constant", keep = "keep_checkpoints=1";
  run("longer", {constant, keep}, quietly());
  EXPECT_TRUE(run("longer", {constant, keep, "steps=9"}, resuming()) ==
              run("long", {constant, keep, "steps=9"}, quietly()));
  run("cosine", {keep}, quietly());
  EXPECT_THAT(error_of([&] { run("cosine", {keep, "steps=9"}, resuming()); }),
              HasSubstr("[train] steps is 9, but the cosine of the learning rate falls over the 6 "
                        "steps that the run was started with. Say optimizer.restart=6"));
  const std::vector<std::string> second = {keep, "steps=9", "optimizer.restart=6",
                                           "optimizer.restart_rate=0.5"};
  EXPECT_TRUE(run("cosine", second, resuming()) == run("second", second, quietly()));
  EXPECT_THAT(error_of([&] { run("cosine", {keep, "steps=5"}, resuming()); }),
              HasSubstr("steps is 5, but the run was started with 9."));
}

TEST(RunPlace, ARunStartsFromTheWeightsOfAnother) {
  TemporaryFolder folder;
  train(tiny_run(folder / "first", {"v_scale.variant=learned", "model.tied=true"}), quietly());
  const std::string checkpoint = folder / "first/run/checkpoints/step000006";
  const RunConfig base = with_model_of(checkpoint, RunConfig());
  EXPECT_EQ(base.model.kv_heads, 1);
  EXPECT_TRUE(base.model.tied);
  EXPECT_EQ(base.rewrites.v_scale.variant, VScaleVariant::learned);
  const std::vector<std::string> words = {
      "out=" + (folder / "next"), "init=" + checkpoint, "batch=4", "length=12",
      "data.symbols=9",           "data.triggers=2",    "steps=2"};
  EXPECT_EQ(init_named_in("{\"init\": \"a\"}", words), checkpoint);
  EXPECT_EQ(init_named_in("{\"init\": \"a\"}", {}), "a");
  train(parse_config("", words, base), quietly());
  EXPECT_TRUE(read_all(folder / "next/run/checkpoints/step000000/model.safetensors") ==
              read_all(checkpoint + "/model.safetensors"));
  const std::string text =
      error_of([&] { train(tiny_run(folder / "wrong", {"init=" + checkpoint}), quietly()); });
  EXPECT_THAT(text, HasSubstr("has no lm_head.weight, which the model of the run has."));
  EXPECT_FALSE(fs::exists(folder / "wrong"));
  const std::string several = error_of([&] {
    train(tiny_run(folder / "wrong", {"init=" + checkpoint, "model.tied=true", "model.d_ff=32",
                                      "model.layers=3", "v_scale.variant=learned"}),
          quietly());
  });
  EXPECT_THAT(several, HasSubstr("mlp.gate_proj.weight is f32["));
  EXPECT_THAT(several, HasSubstr("has no model.layers.2.mlp.down_proj.weight"));
  const std::string many = error_of([&] {
    train(tiny_run(folder / "wrong", {"init=" + checkpoint, "model.tied=true", "model.layers=9",
                                      "v_scale.variant=learned"}),
          quietly());
  });
  EXPECT_THAT(many, HasSubstr("[init] 22 problems:"));
  EXPECT_THAT(many, HasSubstr("more weights differ."));
  EXPECT_THAT(many, HasSubstr("A run takes its model from init=: leave out model, model.*"));
  for (const char* run : {"first", "first/run"})
    EXPECT_THAT(error_of([&] { Checkpoint::open(folder / run); }),
                HasSubstr("is the folder of a run, which holds checkpoints. Give one of them, such "
                          "as " +
                          checkpoint + "."));
  // A model that has checkpoints below it, as other trainers leave them, is a model.
  fs::copy(checkpoint, folder / "model");
  fs::create_directory(folder / "model/checkpoints");
  fs::copy(checkpoint, folder / "model/checkpoints/step000001");
  EXPECT_EQ(Checkpoint::open(folder / "model").config().layers, 2);
}

TEST(RunPlace, ALossThatIsNotFiniteStopsTheRun) {
  TemporaryFolder folder;
  train(tiny_run(folder / "small"), quietly());
  const std::string huge = folder / "small/run/checkpoints/step000006";
  test::fill_weight(huge, "model.layers.1.self_attn.v_proj.weight", 3e38f);
  const std::string init = "init=" + huge;
  const fs::path run = folder.path() / "run";
  const std::string text = error_of([&] { train(tiny_run(run.string(), {init}), quietly()); });
  EXPECT_THAT(text, HasSubstr("[train] run: the loss of step 0 is nan; first not finite is "));
  EXPECT_THAT(text, HasSubstr("(layer 1, sequence 0, token "));
  EXPECT_THAT(text, HasSubstr("largest magnitude of what it reads "));
  EXPECT_THAT(read_all(run / "run/not_finite.json"), HasSubstr("weir.not_finite/1"));
  EXPECT_THAT(text, HasSubstr("The run is stopped (on_nonfinite=stop), and the state before that "
                              "step is kept in " +
                              (run / "run/checkpoints/step000000").string()));
  EXPECT_FALSE(fs::exists(run / "run/complete"));
  const std::string start = read_all(run / "run/checkpoints/step000000/model.safetensors");
  ::testing::internal::CaptureStderr();
  train(tiny_run(run.string(), {init, "on_nonfinite=continue"}), resuming());
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(said, HasSubstr("warning: run: the loss of step 0 is nan; first not finite is "));
  EXPECT_THAT(said, HasSubstr("The updates of this step and of any other like it are left out, and "
                              "the run goes on"));
  EXPECT_EQ(said.find("the loss of step 1"), std::string::npos);
  // No update was made.
  EXPECT_TRUE(read_all(run / "run/checkpoints/step000006/model.safetensors") == start);
}

TEST(RunPlace, InitialWeightsAreFiniteAndThoseOfTheStart) {
  TemporaryFolder folder;
  train(tiny_run(folder / "first"), quietly());
  const fs::path weights = folder.path() / "first/run/checkpoints/step000006";
  const std::vector<std::string> words = {"init=" + weights.string()};
  const std::string name = "model.layers.1.self_attn.v_proj.weight";
  const std::string good = read_all(weights / "model.safetensors");
  test::fill_weight(weights, name, std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(error_of([&] { train(tiny_run(folder / "nan", words), quietly()); }),
              HasSubstr("model.safetensors: tensor " + name + " has NaN at [0,0], the first of "));
  EXPECT_FALSE(fs::exists(folder.path() / "nan"));
  std::ofstream(weights / "model.safetensors") << good;

  // A run that is killed before it has a checkpoint goes on from the same weights alone.
  train(tiny_run(folder / "whole", words), quietly());
  const fs::path killed = folder.path() / "killed";
  train(tiny_run(killed.string(), words), quietly());
  fs::remove_all(killed / "run/checkpoints");
  fs::remove(killed / "run/complete");
  test::fill_weight(weights, name, 0.5f);
  EXPECT_THAT(error_of([&] { train(tiny_run(killed.string(), words), resuming()); }),
              HasSubstr("are not those that arm run was started with (hash "));
  std::ofstream(weights / "model.safetensors") << good;
  train(tiny_run(killed.string(), words), resuming());
  EXPECT_TRUE(results_of(killed / "run") == results_of(folder.path() / "whole/run"));
  // With a checkpoint of its own it needs them no more.
  fs::remove(killed / "run/complete");
  fs::remove_all(weights);
  train(tiny_run(killed.string(), words), resuming());
  EXPECT_TRUE(results_of(killed / "run") == results_of(folder.path() / "whole/run"));
}

TEST(RunPlace, ALearnedVScaleNeedsItsTheta) {
  TemporaryFolder folder;
  train(tiny_run(folder / "first", {"v_scale.variant=learned"}), quietly());
  const std::string checkpoint = folder / "first/run/checkpoints/step000006";
  test::remove_weight(checkpoint, "model.layers.1.self_attn.v_scale.theta");
  const std::string text =
      "says that it was trained with V-scale learned, but has no tensor "
      "model.layers.1.self_attn.v_scale.theta f32[1]. Give the whole checkpoint";
  EXPECT_THAT(error_of([&] { trained_rewrites(Checkpoint::open(checkpoint)); }), HasSubstr(text));
  EXPECT_THAT(error_of([&] { with_model_of(checkpoint, RunConfig()); }), HasSubstr(text));
  EXPECT_THAT(error_of([&] {
                train(tiny_run(folder / "next", {"v_scale.variant=learned", "init=" + checkpoint}),
                      quietly());
              }),
              HasSubstr(text));
}

TEST(RunPlace, AConfigurationThatWasChangedIsFoundOnResuming) {
  TemporaryFolder folder;
  const fs::path run = folder.path() / "run";
  const std::vector<std::string> words = {"arms=a; b: v_scale.variant=full"};
  train(tiny_run(run.string(), words), quietly());
  const auto with_change = [&](const fs::path& file, const std::string& from,
                               const std::string& to) {
    const std::string good = read_all(file);
    std::string changed = good;
    changed.replace(changed.find(from), from.size(), to);
    std::ofstream(file) << changed;
    const std::string resumed = error_of([&] { train(config_of_run(run.string()), resuming()); });
    EXPECT_EQ(error_of([&] { check_run(run); }) == "no error", resumed == "no error");
    std::ofstream(file) << good;
    return resumed;
  };
  const std::string rate = "\"rate\": 0.01", other = "\"rate\": 0.02";
  ASSERT_THAT(read_all(run / "config.json"), HasSubstr(rate));
  EXPECT_THAT(with_change(run / "config.json", rate, other),
              HasSubstr("a/config.json and that of the run in " + run.string() +
                        " contradict each other: optimizer.rate is 0.02 in the configuration of "
                        "the run, but 0.01 in the arm's. Put back the value"));
  EXPECT_THAT(with_change(run / "b/config.json", "\"full\"", "\"none\""),
              HasSubstr("b/config.json and that of the run in"));
  EXPECT_EQ(with_change(run / "config.json", "\"keep_checkpoints\": 0", "\"keep_checkpoints\": 5"),
            "no error");
  // An arm that run.json lacks would be left out of the report.
  auto json = nlohmann::json::parse(read_all(run / "run.json"));
  json["arms"].erase(1);
  std::ofstream(run / "run.json") << json.dump();
  EXPECT_THAT(error_of([&] { check_run(run); }),
              HasSubstr("run.json is damaged: arm b is missing from it."));
  std::ofstream(run / "config.json") << "{\"steps\": 6";
  EXPECT_THAT(error_of([&] { check_run(run); }),
              HasSubstr("Put the file back (each ARM/config.json has the keys of its arm)"));
}

TEST(RunPlace, AMapThatIsGoneIsMadeAgain) {
  TemporaryFolder folder;
  const fs::path run = folder.path() / "run", map = run / "run/maps.json";
  train(tiny_run(run.string()), quietly());
  const std::string good = read_all(map);
  fs::remove(map);
  EXPECT_THAT(error_of([&] { check_run(run); }), HasSubstr("maps.json is missing."));
  train(tiny_run(run.string()), resuming());
  EXPECT_EQ(read_all(map), good);
  for (const char* bad : {"[]", "{}", "[", ""}) {
    std::ofstream(map) << bad;
    train(tiny_run(run.string()), resuming());
    EXPECT_EQ(read_all(map), good) << bad;
  }
}

TEST(RunPlace, ARunJsonThatDoesNotSayTheDataIsDamaged) {
  TemporaryFolder folder;
  const fs::path run = folder.path() / "run";
  std::ofstream(folder / "held.txt") << std::string(300, 'b');
  const std::vector<std::string> words = {"data.kind=text", "data.files=" + folder / "held.txt",
                                          "data.validation=0.5"};
  train(tiny_run(run.string(), words), quietly());
  const auto good = nlohmann::json::parse(read_all(run / "run.json"));
  auto without = good;
  without["arms"][0].erase("validation");
  for (const auto& bad : {nlohmann::json{{"a", 1}}, without}) {
    std::ofstream(run / "run.json") << bad.dump();
    EXPECT_THAT(error_of([&] { train(tiny_run(run.string(), words), resuming()); }),
                HasSubstr("run.json is damaged: it does not say which data arm run was started"));
  }
  std::ofstream(run / "run.json") << good.dump();
  train(tiny_run(run.string(), words), resuming());
}

TEST(StepLines, ACutRecordIsNoLine) {
  TemporaryFolder folder;
  const std::string file = folder / "lines.jsonl";
  const std::string zero = R"({"step":0,"loss":1,"a":{"step":7}})",
                    one = R"({"step":1,"loss":1.5})", two = R"({"loss":"NaN","a":[1,2],"step":2})";
  std::ofstream(file) << zero << "\n"
                      << two << "\n"
                      << one << "\n"
                      << R"([{"step":3,"loss":1}])" << "\nnonsense\n"
                      << R"({"step":2,"loss":2,"a":0})" << "\n"
                      << R"({"step":4,"loss":1})";
  const StepLines lines = read_step_lines(file, {0, 1, 2, 3, 4}, 5);
  EXPECT_EQ(lines.text, zero + "\n" + one + "\n" + two + "\n");
  EXPECT_EQ(lines.last, 2);
  EXPECT_EQ(lines.missing, 3);
  EXPECT_FALSE(lines.as_written);
  // Of equal keys a reader would have to choose one; a line without a loss is none, nor is one of a
  // step that the run has not.
  for (const char* bad :
       {R"({"step":1,"loss":2,"loss":3})", R"({"step":1})", R"({"step":1,"loss":"low"})",
        R"({"step":1,"loss":null})", R"({"step":1,"a":{"loss":1}})", R"({"step":1.0,"loss":1})",
        R"({"step":-1,"loss":1})", R"({"step":3,"loss":1})"}) {
    std::ofstream(file) << zero << "\n" << bad << "\n" << two << "\n";
    const StepLines found = read_step_lines(file, {0, 1, 2}, 5);
    EXPECT_EQ(found.text, zero + "\n" + two + "\n") << bad;
    EXPECT_EQ(found.missing, 1) << bad;
    EXPECT_FALSE(found.as_written) << bad;
  }
  std::ofstream(file) << zero << "\n" << one << "\n";
  EXPECT_TRUE(read_step_lines(file, {0, 1}, 2).as_written);
  const StepLines none = read_step_lines(folder / "absent", {0}, 1);
  EXPECT_EQ(none.text, "");
  EXPECT_EQ(none.missing, 0);
}

}  // namespace
}  // namespace weir
