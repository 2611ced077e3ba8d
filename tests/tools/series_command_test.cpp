// `weir measure` of a series of checkpoints, and what `weir export` makes of runs and records.
#include <gmock/gmock.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>

#include "io/npy.h"
#include "io/safetensors.h"
#include "tools/command_test_util.h"

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Result = weir::test::CommandResult;

class SeriesCommand : public weir::test::Command {
 protected:
  void SetUp() override {
    const Result trained = weir(
        "train out=run steps=4 checkpoint_every=2 batch=2 length=12 model.layers=2 "
        "model.d_model=16 model.heads=2 model.d_ff=24 data.symbols=9 data.triggers=2 "
        "measure.steps=0,4");
    ASSERT_EQ(trained.status, 0) << trained.err;
    std::vector<int32_t> ids(3 * 13);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 5 % 9);
    const std::vector<int64_t> shape = {3, 13};
    weir::write_npy((folder_ / "ids.npy").string(),
                    {weir::FileDtype::i32, shape, std::as_bytes(std::span(ids))});
  }
  std::vector<Json> lines_of(const std::string& name) const {
    std::istringstream text(text_of(folder_ / name));
    std::vector<Json> lines;
    for (std::string line; std::getline(text, line);) lines.push_back(Json::parse(line));
    return lines;
  }
};

const std::string kMeasure = "measure --tokens ids.npy ";
const std::string kAll = "--model 'run/run/checkpoints/*' ";

TEST_F(SeriesCommand, MeasuresEveryCheckpointOnTheSameTokens) {
  const Result result = weir(kMeasure + kAll + "--json s.jsonl --map 1.0");
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* text :
       {"2 checkpoints, steps 2 to 4: 2 layers, 2 heads; 3 x 12 tokens\n", "Peak memory ",
        "compiled in ", "step 2: load ", "step 4: load ", "step   loss  sink rate  sink score",
        "\nload ", "Records: s.jsonl\n", "/s.html\n"})
    EXPECT_THAT(result.out, HasSubstr(text));
  std::vector<Json> series = lines_of("s.jsonl");
  ASSERT_EQ(series.size(), 2U);
  for (int i = 0; i < 2; ++i) {
    const std::string name = fmt::format("step00000{}", 2 * i + 2);
    ASSERT_EQ(
        weir(kMeasure + "--no-report --json one.json --model run/run/checkpoints/" + name).status,
        0);
    Json one = lines_of("one.json")[0];
    EXPECT_EQ(series[i]["step"], 2 * i + 2);
    EXPECT_EQ(series[i]["model"]["name"], name);
    EXPECT_EQ(series[i]["provenance"]["model"], one["provenance"]["model"]);
    EXPECT_EQ(series[i]["provenance"]["tokens"], one["provenance"]["tokens"]);
    for (Json* record : {&series[i], &one}) record->erase("provenance");
    series[i].erase("step");
    EXPECT_EQ(series[i], one);
  }
  const std::string page = text_of(folder_ / "s.html");
  EXPECT_THAT(page, AllOf(HasSubstr("<h1>run/run/checkpoints/*</h1>"), HasSubstr("\"series\":true"),
                          HasSubstr("Mean next-token cross-entropy over all targets"),
                          HasSubstr("from step 2 to step 4"), HasSubstr("weir measure --tokens")));
  EXPECT_THAT(page, Not(HasSubstr("{{")));
  // The same once more, in the place of the first.
  const std::string first = text_of(folder_ / "s.jsonl");
  EXPECT_EQ(weir(kMeasure + kAll + "--json s.jsonl").status, 0);
  const Result listed = weir(kMeasure +
                             "--json t.jsonl --model run/run/checkpoints/step000004 "
                             "run/run/checkpoints/step000002 --sink-token auto");
  EXPECT_EQ(listed.status, 0) << listed.err;
  EXPECT_EQ(lines_of("t.jsonl")[0]["step"], 2);
  EXPECT_EQ(
      weir(kMeasure + "--interpret --json i.jsonl --no-report --model run/run/checkpoints").status,
      0);
  EXPECT_NEAR(lines_of("i.jsonl")[1]["loss"].get<double>(),
              Json::parse(first.substr(first.find('\n') + 1))["loss"].get<double>(), 1e-5);
}

TEST_F(SeriesCommand, RefusesBeforeItRuns) {
  fs::copy(folder_ / "run/run/checkpoints/step000002", folder_ / "step9");
  for (const auto& [arguments, status, message] :
       std::vector<std::tuple<std::string, int, std::string>>{
           {kAll + "--json s.jsonl --profile p.json", 2,
            "--profile is of one checkpoint, but --model names a series. Give it with one of "
            "them."},
           {kAll + "--probe hook_embed --save-probes p.npz", 2,
            "--save-probes is of one checkpoint, but --model names a series."},
           {"--model 'nothing/*' --json s.jsonl", 1,
            "--model: the pattern nothing/* matches no folder and no .gguf file."},
           {"--model run/run/checkpoints step9 --json s.jsonl", 1,
            "step9 is of step 2 by its own state, but of step 9 by its name."},
           {kAll + "--json s.jsonl --map 2.0 --sink-token 12", 2,
            "--map 2.0: the model has layers 0 to 1 with heads 0 to 1."},
           {kAll + "--json s.jsonl --map 2.0 --sink-token 12", 2,
            "--sink-token is 12, but a sequence has the tokens 0 to 11."},
           {kAll + "--json run/run/checkpoints/step000002/config.json", 2,
            "would be written over run/run/checkpoints/step000002/config.json, a file of the "
            "folder"},
           {"--model run/run/checkpoints/step000002 --json s.json --probe-dtype bf16", 2,
            "--probe-dtype is of --save-probes FILE.safetensors; an .npz has f32, as NumPy has no "
            "bf16."}}) {
    const Result result = weir(kMeasure + arguments);
    EXPECT_EQ(result.status, status) << arguments;
    EXPECT_THAT(result.err, HasSubstr(message)) << arguments;
    EXPECT_EQ(result.out, "") << arguments;
  }
  EXPECT_FALSE(fs::exists(folder_ / "s.jsonl"));
}

// A checkpoint that turns out to be of no use is named at the end; the others are there.
TEST_F(SeriesCommand, MeasuresTheOthersWhereWeightsAreNotFinite) {
  const fs::path checkpoint = folder_ / "run/run/checkpoints/step000002";
  const weir::SafetensorsFile file((checkpoint / "model.safetensors").string());
  const weir::SafetensorsEntry& entry = file.at("model.norm.weight");
  std::string bytes = text_of(checkpoint / "model.safetensors");
  bytes.replace(bytes.size() - (file.entries().back().end - entry.begin), 4, "\0\0\xc0\x7f", 4);
  write("run/run/checkpoints/step000002/model.safetensors", bytes);
  fs::remove(checkpoint / "state.json");  // which has the hash of the weights
  const Result result = weir(kMeasure + kAll + "--json s.jsonl");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, AllOf(HasSubstr("step000002/model.safetensors: tensor model.norm.weight "
                                          "has NaN at [0]")));
  ASSERT_EQ(lines_of("s.jsonl").size(), 1U);
  EXPECT_EQ(lines_of("s.jsonl")[0]["step"], 4);
  EXPECT_TRUE(fs::exists(folder_ / "s.html"));
}

TEST_F(SeriesCommand, SavesProbesAsTensors) {
  const std::string save =
      kMeasure +
      "--model run/run/checkpoints/step000004 --probe 'blocks.*.attn.hook_v' --probe "
      "'blocks.0.ln2.hook_in.grad : batch_sum' --save-probes ";
  ASSERT_EQ(weir(save + "p.npz").status, 0);
  ASSERT_EQ(weir(save + "p.safetensors").status, 0);
  const Result half = weir(save + "h.safetensors --probe-dtype bf16");
  ASSERT_EQ(half.status, 0) << half.err;
  EXPECT_THAT(half.out, HasSubstr("Probes: h.safetensors\n"));
  const weir::SafetensorsFile whole((folder_ / "p.safetensors").string()),
      rounded((folder_ / "h.safetensors").string());
  int compared = 0;
  for (const auto& [id, array] : weir::read_npz((folder_ / "p.npz").string())) {
    const std::string hook = id.substr(0, id.find(':'));
    EXPECT_EQ(whole.at(hook).shape, array.shape);
    const auto values = array.as<float>();
    EXPECT_EQ(whole.to_f32(hook), std::vector<float>(values.begin(), values.end())) << hook;
    EXPECT_EQ(rounded.at(hook).dtype, weir::FileDtype::bf16);
    for (size_t i = 0; i < values.size(); ++i)
      EXPECT_EQ(rounded.to_f32(hook)[i], weir::bf16_to_f32(weir::f32_to_bf16(values[i])));
    ++compared;
  }
  EXPECT_EQ(compared, 3);
  EXPECT_EQ(Json::parse(whole.metadata().at("settings"))["sink_token"], 0);
  EXPECT_EQ(Json::parse(whole.metadata().at("provenance"))["command"].get<std::string>(),
            "weir " +
                std::regex_replace(save, std::regex("--probe '(.*?)' --probe '(.*?)'"),
                                   "--probe '$1' --probe '$2'") +
                "p.safetensors");
  // Its own files are replaced, also where others like it lie beside; other files are not.
  EXPECT_EQ(weir(save + "p.safetensors").status, 0);
  fs::copy_file(folder_ / "run/run/checkpoints/step000004/model.safetensors",
                folder_ / "weights.bin");
  const Result refused = weir(save + "weights.bin");
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, HasSubstr("is not an archive of probes"));
}

TEST_F(SeriesCommand, ExportsRunsAndRecords) {
  ASSERT_EQ(weir(kMeasure + kAll + "--no-report --json s.jsonl").status, 0);
  Result result = weir("export run --csv a.csv");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(std::regex_match(result.out, std::regex("[0-9]+ rows of 1 arm: a.csv\n")))
      << result.out;
  const std::string csv = text_of(folder_ / "a.csv");
  EXPECT_THAT(csv, AllOf(StartsWith("step,arm,layer,head,token,metric,value\n"),
                         HasSubstr("\n4,run,1,1,11,value_norm_by_head,"),
                         HasSubstr("\n3,run,,,,train.loss,"),
                         HasSubstr("\n4,run,,,,summary.gradient_sink_ratio_quartiles.low,")));
  EXPECT_THAT(csv, Not(HasSubstr("\n4,run,,,,train.loss,")));
  // Its own file is replaced; two inputs keep apart.
  result = weir("export run s.jsonl --csv a.csv --metric loss");
  ASSERT_EQ(result.status, 0) << result.err;
  const std::string both = text_of(folder_ / "a.csv");
  EXPECT_THAT(both, AllOf(HasSubstr("\n0,run/run,,,,loss,"), HasSubstr("\n2,s,,,,loss,"),
                          HasSubstr("\n4,s,,,,loss,")));
  EXPECT_EQ(std::count(both.begin(), both.end(), '\n'), 1 + 2 + 2);
  fs::create_directory(folder_ / "empty");
  fs::copy_file(folder_ / "s.jsonl", folder_ / "empty/s.jsonl");
  write("notes", "my notes");
  for (const auto& [arguments, status, message] :
       std::vector<std::tuple<std::string, int, std::string>>{
           {"export empty --csv b.csv", 2,
            "[export] empty is no folder of a run: config.json or run.json is missing."},
           {"export s.jsonl empty/s.jsonl --csv b.csv", 2,
            "s.jsonl and empty/s.jsonl would both be the arm s. Rename one of them."},
           {"export s.jsonl --csv b.csv --metric sink_scores", 2,
            "[export] no metric matches 'sink_scores'. Did you mean sink_score"},
           {"export ids.npy --csv b.csv", 1, "ids.npy:1: this line is damaged"},
           {"export s.jsonl", 2, "--csv is missing"},
           {"export s.jsonl --csv notes", 1,
            "--csv: notes is there already and is not a CSV that `weir export` writes"},
           {"export run --csv run/run/loss.jsonl", 2,
            "would be written over run/run/loss.jsonl, a file of the folder run that input reads"},
           {"export absent --csv b.csv", 1, "input: there is no absent"}}) {
    result = weir(arguments);
    EXPECT_EQ(result.status, status) << arguments << "\n" << result.err;
    EXPECT_THAT(result.err, HasSubstr(message)) << arguments;
  }
  EXPECT_FALSE(fs::exists(folder_ / "b.csv"));
}

TEST_F(SeriesCommand, TrainsWithEventsForTensorBoard) {
  const Result resumed = weir("train resume=run tensorboard=true");
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  const std::string events = text_of(folder_ / "run/run/events.out.tfevents.weir");
  EXPECT_THAT(events, AllOf(HasSubstr("brain.Event:2"), HasSubstr("train/loss"),
                            HasSubstr("layers/1/sink_score")));
}

}  // namespace
