// Whole runs: files, resuming, interruption, errors.
#include "lab/train/train.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "io/npy.h"
#include "ir/rewrite_state.h"
#include "lab/fill_weight.h"
#include "lab/lab_test_util.h"
#include "lab/measure/model_source.h"
#include "lab/report/report.h"
#include "lab/train/check_run.h"
#include "lab/train/run_folder.h"
#include "models/checkpoint.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::read_all;
using test::tiny_run;
using ::testing::HasSubstr;

const test::TestCache cache;

TrainOptions quietly() {
  TrainOptions options;
  options.quiet = true;
  return options;
}

const std::vector<std::string> kArms = {
    "arms=baseline; v-scale: v_scale.variant=full attention=softmax-1", "measure.steps=0,2,3,6",
    "measure.probes=blocks.0.attn.hook_v.grad : batch_sum; hook_embed : norm(feature)"};

// loss.jsonl without the speed, which is no result.
std::string losses_of(const fs::path& file) {
  std::istringstream lines(read_all(file));
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    auto json = nlohmann::ordered_json::parse(line);
    json.erase("tokens_per_second");
    kept += json.dump() + "\n";
  }
  return kept;
}

void expect_same_results(const fs::path& a, const fs::path& b) {
  for (const char* arm : {"baseline", "v-scale"}) {
    EXPECT_EQ(losses_of(a / arm / "loss.jsonl"), losses_of(b / arm / "loss.jsonl"));
    for (const char* file : {"metrics.jsonl", "maps.json", "probes/step000003.npz",
                             "checkpoints/step000006/model.safetensors",
                             "checkpoints/step000006/optimizer.safetensors"}) {
      EXPECT_TRUE(read_all(a / arm / file) == read_all(b / arm / file)) << arm << "/" << file;
      EXPECT_GT(read_all(a / arm / file).size(), 500u) << arm << "/" << file;
    }
  }
}

TEST(Train, WritesWhatAReportNeeds) {
  test::TemporaryFolder folder;
  RunConfig config = tiny_run(folder / "run", kArms);
  TrainOutcome outcome = train(config, quietly());
  EXPECT_EQ(outcome.signal, 0);
  const fs::path run = folder.path() / "run";
  for (const char* arm : {"baseline", "v-scale"}) {
    std::istringstream metrics(read_all(run / arm / "metrics.jsonl"));
    std::vector<int64_t> steps;
    for (std::string line; std::getline(metrics, line);) {
      auto record = nlohmann::json::parse(line);
      steps.push_back(record.at("step").get<int64_t>());
      EXPECT_EQ(record.at("tokens"), (nlohmann::json{{"batch", 4}, {"length", 12}}));
      const bool unit_rows = arm == std::string("baseline");
      EXPECT_EQ(record.at("settings").at("attention"), unit_rows ? "softmax" : "softmax-1");
      EXPECT_EQ(record.at("layers").at(0).contains("row_sum"), !unit_rows);
    }
    EXPECT_EQ(steps, (std::vector<int64_t>{0, 2, 3, 6}));
    auto probes = read_npz((run / arm / "probes" / "step000002.npz").string());
    ASSERT_EQ(probes.size(), 3u - 1);
    EXPECT_EQ(probes[0].first, "blocks.0.attn.hook_v.grad:batch_sum");
    EXPECT_EQ(probes[0].second.shape, (std::vector<int64_t>{1, 12, 1, 8}));
    EXPECT_EQ(probes[1].second.shape, (std::vector<int64_t>{4, 12, 1}));
  }
  // A checkpoint is a model as others load it, and says how it was rewritten.
  const fs::path last = run / "v-scale" / "checkpoints" / "step000006";
  const Checkpoint checkpoint = Checkpoint::open(last.string());
  EXPECT_EQ(checkpoint.config().rewrites,
            (std::map<std::string, std::string>{{"attention", "softmax-1"},
                                                {"v_scale.variant", "full"}}));
  EXPECT_EQ(checkpoint.config().kv_heads, 1);
  EXPECT_EQ(checkpoint.config().context, 12);
  EXPECT_EQ(checkpoint.build(1, 12).parameters.size(), 9U * 2 + 3);
  // The same seed and data: the arms differ from the first step on by V-scale and softmax-1.
  EXPECT_NE(losses_of(run / "baseline" / "loss.jsonl"), losses_of(run / "v-scale" / "loss.jsonl"));
  write_report(run, folder.path() / "report.html");
  EXPECT_THAT(read_all(folder.path() / "report.html"), HasSubstr("v-scale"));
  EXPECT_THAT(summary_table(run), HasSubstr("baseline"));
}

// Weights that rewrites bring are trained from their first values, stored, and read again.
TEST(Train, WeightsOfRewritesArePartOfTheModel) {
  test::TemporaryFolder folder;
  train(tiny_run(folder / "run", {"attention=kv-bias", "attention_gate=element", "qk_norm=true"}),
        quietly());
  const fs::path last = folder.path() / "run" / "run" / "checkpoints" / "step000006";
  const Checkpoint checkpoint = Checkpoint::open(last.string());
  EXPECT_EQ(checkpoint.config().rewrites,
            (std::map<std::string, std::string>{
                {"attention", "kv-bias"}, {"attention_gate", "element"}, {"qk_norm", "true"}}));
  const Rewrites rewrites = trained_rewrites(checkpoint);
  const Model model = checkpoint.build(1, 12);
  const std::vector<AddedState> states =
      added_states(*model.graph, *apply_rewrites(model.graph, rewrites));
  EXPECT_EQ(states.size(), 5U * 2);
  for (const AddedState& state : states) {
    std::vector<float> values(static_cast<size_t>(state.type.elements()));
    checkpoint.read({state.name, state.type}, values.data());
    const auto first = static_cast<float>(first_value_of(state.name));
    for (float value : values) EXPECT_NEAR(value, first, 0.1) << state.name;
    EXPECT_TRUE(std::any_of(values.begin(), values.end(), [&](float x) { return x != first; }))
        << state.name;
  }
  test::remove_weight(last, "model.layers.1.self_attn.kv_bias.value");
  EXPECT_THAT(error_of([&] { trained_rewrites(Checkpoint::open(last.string())); }),
              HasSubstr("says that it was trained with attention kv-bias, but has no tensor "
                        "model.layers.1.self_attn.kv_bias.value"));
}

TEST(Train, AProfileIsWrittenWhenAskedForAndChangesNothing) {
  test::TemporaryFolder folder;
  TrainOptions options = quietly();
  train(tiny_run(folder / "plain", kArms), options);
  options.profile = true;
  train(tiny_run(folder / "timed", kArms), options);
  expect_same_results(folder.path() / "plain", folder.path() / "timed");
  EXPECT_FALSE(fs::exists(folder.path() / "plain" / "baseline" / "profile.json"));
  for (const char* arm : {"baseline", "v-scale"}) {
    const auto profile =
        nlohmann::json::parse(read_all(folder.path() / "timed" / arm / "profile.json"));
    EXPECT_EQ(profile.at("format"), "weir.profile/1");
    EXPECT_EQ(profile.at("what"), arm);
    EXPECT_EQ(profile.at("steps"), 6);
    EXPECT_LE(profile.at("kernel_seconds"), profile.at("step_seconds"));
    EXPECT_GT(profile.at("peak_operations_per_second"), 1e8);
    double share = 0;
    std::set<std::string> schedules;
    for (const auto& kernel : profile.at("kernels")) {
      share += kernel.at("share_of_time").get<double>();
      schedules.insert(kernel.at("schedule").get<std::string>());
      EXPECT_GE(kernel.at("runs"), 3);  // measured steps run other programs
    }
    EXPECT_NEAR(share, 1, 1e-9);
    EXPECT_TRUE(schedules.contains("matmul") && schedules.contains("attention_grad"));
  }
}

TEST(Train, WritesAValidationLossThatResumingRepeats) {
  test::TemporaryFolder folder;
  fs::create_directory(folder.path() / "text");
  std::ofstream(folder.path() / "text" / "a.txt") << std::string(2000, 'a') + "bcd";
  std::ofstream(folder.path() / "text" / "held.txt") << std::string(300, 'b');
  const std::vector<std::string> words = {"data.kind=text",
                                          "data.files=" + folder / "text",
                                          "data.validation=" + folder / "text/held.txt",
                                          "measure.validation_batches=2",
                                          "measure.steps=0,2,3,6",
                                          "checkpoint_every=2"};
  train(tiny_run(folder / "whole", words), quietly());
  const std::string expected = read_all(folder.path() / "whole/run/validation.jsonl");
  std::istringstream lines(expected);
  std::vector<int64_t> steps;
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    steps.push_back(json.at("step").get<int64_t>());
    EXPECT_EQ(json.at("tokens"), 2 * 4 * 12);
    EXPECT_GT(json.at("loss").get<double>(), 1);
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{0, 2, 3, 6}));
  const auto run = nlohmann::json::parse(read_all(folder.path() / "whole/run.json"));
  EXPECT_EQ(run.at("arms").at(0).at("data").at("tokens"), 2004);
  EXPECT_EQ(run.at("arms").at(0).at("data").at("separator").at("id"), 0);
  EXPECT_EQ(run.at("arms").at(0).at("data").at("begin_token").at("id"), nullptr);
  EXPECT_EQ(run.at("arms").at(0).at("validation").at("tokens"), 301);
  EXPECT_EQ(run.at("arms").at(0).at("validation").at("evaluated_tokens"), 96);

  write_report(folder.path() / "whole", folder.path() / "report.html");
  EXPECT_THAT(read_all(folder.path() / "report.html"), HasSubstr("\"validation\":{\"loss\":["));

  // A line that a measured step lacks is never passed over, and is computed again.
  check_run(folder.path() / "whole");
  const fs::path file = folder.path() / "whole/run/validation.jsonl";
  TrainOptions repairing = quietly();
  repairing.resume = true;
  for (int64_t lost : {0, 2, 6}) {
    std::ofstream cut(file);
    std::istringstream all(expected);
    for (std::string line; std::getline(all, line);)
      if (nlohmann::json::parse(line).at("step") != lost) cut << line << "\n";
    cut.close();
    EXPECT_THAT(error_of([&] { check_run(folder.path() / "whole"); }),
                HasSubstr(fmt::format("validation.jsonl lacks the line of step {}. `weir train "
                                      "resume={}` computes again what is missing.",
                                      lost, folder / "whole")));
    train(tiny_run(folder / "whole", words), repairing);
    EXPECT_EQ(read_all(file), expected) << lost;
  }
  const std::string first = expected.substr(0, expected.find('\n') + 1);
  std::ofstream(file) << expected << first;
  EXPECT_THAT(error_of([&] { write_report(folder.path() / "whole", folder / "report.html"); }),
              HasSubstr("validation.jsonl:5, \"step\": steps must ascend, found 0 after 6"));
  train(tiny_run(folder / "whole", words), repairing);
  fs::remove(file);
  EXPECT_THAT(error_of([&] { check_run(folder.path() / "whole"); }),
              HasSubstr("validation.jsonl lacks the line of step 0."));
  train(tiny_run(folder / "whole", words), repairing);
  EXPECT_EQ(read_all(file), expected);
  // So are the last losses of a run that has ended.
  const fs::path losses = folder.path() / "whole/run/loss.jsonl";
  const std::string all_losses = read_all(losses);
  std::ofstream(losses) << all_losses.substr(0, all_losses.rfind('\n', all_losses.size() - 2) + 1);
  EXPECT_THAT(error_of([&] { check_run(folder.path() / "whole"); }),
              HasSubstr("loss.jsonl lacks the line of step 5."));
  train(tiny_run(folder / "whole", words), repairing);
  check_run(folder.path() / "whole");

  struct Killed {};
  TrainOptions options = quietly();
  options.on_step = [](const std::string&, int64_t done) {
    if (done == 5) throw Killed();
  };
  EXPECT_THROW(train(tiny_run(folder / "cut", words), options), Killed);
  options = quietly();
  options.resume = true;
  train(tiny_run(folder / "cut", words), options);
  EXPECT_EQ(read_all(folder.path() / "cut/run/validation.jsonl"), expected);
  EXPECT_EQ(losses_of(folder.path() / "cut/run/loss.jsonl"),
            losses_of(folder.path() / "whole/run/loss.jsonl"));

  std::ofstream(folder.path() / "short.txt") << "short";
  EXPECT_THAT(
      error_of([&] {
        train(tiny_run(folder / "short", {"data.kind=text", "data.files=" + folder / "text",
                                          "data.validation=" + folder / "short.txt"}),
              quietly());
      }),
      HasSubstr("the validation text has 6 tokens, too few for one sequence of length 12."));
}

TEST(Train, KilledAndResumedIsUninterrupted) {
  test::TemporaryFolder folder;
  train(tiny_run(folder / "whole", kArms), quietly());
  std::vector<std::string> words = kArms;
  words.push_back("checkpoint_every=2");
  RunConfig config = tiny_run(folder / "cut", words);
  struct Killed {};
  for (auto [arm, step] :
       {std::pair{"baseline", 3}, {"baseline", 5}, {"v-scale", 1}, {"v-scale", 4}}) {
    TrainOptions options = quietly();
    options.resume = fs::exists(folder / "cut");
    options.on_step = [arm = arm, step = step](const std::string& name, int64_t done) {
      if (name == arm && done == step) throw Killed();
    };
    EXPECT_THROW(train(config, options), Killed) << arm << " " << step;
  }
  TrainOptions options = quietly();
  options.resume = true;
  train(config, options);
  expect_same_results(folder.path() / "whole", folder.path() / "cut");
  train(config, options);  // nothing is left to do
  expect_same_results(folder.path() / "whole", folder.path() / "cut");
}

TEST(Train, KeepsTheNewestCheckpointsAlone) {
  test::TemporaryFolder folder;
  auto kept = [&](const std::string& keep) {
    TrainOptions options = quietly();
    options.overwrite = true;
    train(tiny_run(folder / "run", {"checkpoint_every=2", "measure.steps=0", keep}), options);
    std::vector<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(folder.path() / "run"))
      if (entry.is_directory() && entry.path().parent_path().filename() == "checkpoints")
        names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  };
  EXPECT_EQ(kept("keep_checkpoints=0"),
            (std::vector<std::string>{"step000002", "step000004", "step000006"}));
  EXPECT_EQ(kept("keep_checkpoints=2"), (std::vector<std::string>{"step000004", "step000006"}));
}

TEST(Train, AnInterruptLeavesACheckpoint) {
  test::TemporaryFolder folder;
  train(tiny_run(folder / "whole", kArms), quietly());
  RunConfig config = tiny_run(folder / "cut", kArms);
  TrainOptions options = quietly();
  options.on_step = [](const std::string& arm, int64_t done) {
    if (arm == "baseline" && done == 3) std::raise(SIGINT);
  };
  TrainOutcome outcome = train(config, options);
  EXPECT_EQ(outcome.signal, SIGINT);
  EXPECT_EQ(outcome.arm, "baseline");
  EXPECT_EQ(outcome.step, 3);
  EXPECT_TRUE(fs::exists(folder / "cut/baseline/checkpoints/step000003/state.json"));
  EXPECT_FALSE(fs::exists(folder / "cut/v-scale"));
  options = quietly();
  options.resume = true;
  EXPECT_EQ(train(config_of_run(folder / "cut"), options).signal, 0);
  expect_same_results(folder.path() / "whole", folder.path() / "cut");
}

TEST(Train, SaysWhatIsWrongWithTheFolder) {
  test::TemporaryFolder folder;
  RunConfig config = tiny_run(folder / "run", {"steps=1", "measure.metrics=false"});
  TrainOptions resume = quietly(), again = quietly();
  resume.resume = true;
  again.overwrite = true;
  EXPECT_THAT(error_of([&] { train(config, resume); }), HasSubstr("there is no run in"));
  train(config, quietly());
  EXPECT_THAT(error_of([&] { train(config, quietly()); }),
              HasSubstr("Continue it with --resume, replace it with --overwrite"));
  train(config, again);
  RunConfig other = tiny_run(folder / "run", {"steps=2", "measure.metrics=false", "batch=8",
                                              "threads=1", "checkpoint_every=1"});
  std::string text = error_of([&] { train(other, resume); });
  EXPECT_THAT(text, HasSubstr("[train] 2 problems:"));
  EXPECT_THAT(text, HasSubstr("batch is 8, but the run was started with 4."));
  EXPECT_THAT(text, HasSubstr("steps is 2, but the cosine of the learning rate falls over the 1 "
                              "steps that the run was started with."));
  std::ofstream(folder / "letter.txt") << "dear reader";
  std::ofstream(folder / "config.json") << "{}";  // as models of others have it
  RunConfig precious = tiny_run(folder.path().string(), {"steps=1"});
  EXPECT_THAT(error_of([&] { train(precious, again); }), HasSubstr("exists and is no run"));
  EXPECT_TRUE(fs::exists(folder / "letter.txt"));
}

TEST(Train, WrongProbesAndIdsShowBeforeAnythingIsWritten) {
  test::TemporaryFolder folder;
  RunConfig config = tiny_run(folder / "run");
  config.measure.probes = {"blocks.0.atn.hook_v"};
  EXPECT_THAT(error_of([&] { train(config, quietly()); }),
              HasSubstr("matches no hook. Did you mean"));
  config = tiny_run(folder / "run", {"model.vocabulary=5"});
  EXPECT_THAT(error_of([&] { train(config, quietly()); }),
              HasSubstr("model.vocabulary is 5, but the data has id 9 ('<s>'), so at least 10 is "
                        "needed."));
  config = tiny_run(folder / "run", {"model.d_ff=1048576", "model.layers=1024"});
  EXPECT_THAT(error_of([&] { train(config, quietly()); }),
              HasSubstr("weights and optimizer state alone take"));
  EXPECT_FALSE(fs::exists(folder / "run"));
}

TEST(Train, ADamagedCheckpointIsNamedWithTheOneBefore) {
  test::TemporaryFolder folder;
  RunConfig config = tiny_run(folder / "run", {"checkpoint_every=2", "measure.metrics=false"});
  TrainOptions options = quietly();
  options.on_step = [](const std::string&, int64_t done) {
    if (done == 5) throw 5;
  };
  EXPECT_THROW(train(config, options), int);
  const fs::path last = folder.path() / "run/run/checkpoints/step000004";
  fs::resize_file(last / "model.safetensors", 100);
  options = quietly();
  options.resume = true;
  std::string text = error_of([&] { train(config, options); });
  EXPECT_THAT(text, HasSubstr((last / "model.safetensors").string() + " is damaged: its hash is "));
  EXPECT_THAT(text, HasSubstr("Remove " + last.string() +
                              " and resume from the one before it, step000002."));
  fs::remove_all(last);
  EXPECT_EQ(train(config, options).step, 6);
}

}  // namespace
}  // namespace weir
