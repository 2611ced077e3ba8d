// `weir quantize` on checkpoints: what it prints and writes, and what it refuses.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "io/npy.h"
#include "runtime/random.h"
#include "tools/command_test_util.h"

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Result = weir::test::CommandResult;

class QuantizeCommand : public weir::test::Command {
 protected:
  static std::string model(const std::string& name) {
    return fmt::format("{}/models/{}", WEIR_TEST_DATA, name);
  }
  // rows x 9 ids below 11.
  void write_ids(const std::string& file, size_t rows, uint64_t seed) const {
    weir::Random random(seed, 0);
    std::vector<int32_t> ids(rows * 10);
    for (int32_t& id : ids) id = static_cast<int32_t>(random.below(11));
    const std::vector<int64_t> shape = {static_cast<int64_t>(rows), 10};
    weir::write_npy((folder_ / file).string(),
                    {weir::FileDtype::i32, shape, std::as_bytes(std::span(ids))});
  }
  // Two sequences, with two draws of one behind them.
  Result quantize(const std::string& name, const std::string& options) const {
    return weir(fmt::format("quantize --model {} --tokens ids.npy --draws 2 --draw-tokens 9 {}",
                            model(name), options));
  }
  Json json_of(const std::string& name) const { return Json::parse(text_of(folder_ / name)); }
};

TEST_F(QuantizeCommand, WritesTableRecordAndReport) {
  write_ids("ids.npy", 4, 1);
  write_ids("more.npy", 2, 2);
  const Result result = quantize("llama", "--tokens2 more.npy --json out.json");
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* text :
       {"llama: 2 layers, 4 heads; 2 x 9 tokens\n", "Peak memory ", "perplexity 1", "sink damage 2",
        "\nf32 ", "\nweights-4-g32-aware ", "\nsmooth-per-token ", "Sink damage on the first text",
        " evaluations in ", " stated\n", "Record: out.json\n", "/out.html\n"})
    EXPECT_THAT(result.out, HasSubstr(text));
  const Json record = json_of("out.json");
  EXPECT_EQ(record["format"], "weir.quantize/1");
  EXPECT_EQ(record["corpora"].size(), 2U);
  EXPECT_EQ(record["corpora"][1]["name"], "more.npy");
  EXPECT_EQ(record["corpora"][1]["input"]["kind"], "tokens");
  EXPECT_EQ(record["arms"].size(), 18U);
  EXPECT_EQ(record["settings"]["draw_tokens"], 9);
  const std::string page = text_of(folder_ / "out.html");
  EXPECT_THAT(page, AllOf(StartsWith("<!DOCTYPE html>"), HasSubstr("<h1>llama</h1>"),
                          HasSubstr("weir quantize --model ")));
  write("notes.json", "mine");
  EXPECT_EQ(quantize("llama", "--json notes.json").status, 1);
  EXPECT_EQ(text_of(folder_ / "notes.json"), "mine");
}

TEST_F(QuantizeCommand, TakesEveryArchitectureAndTheInterpreter) {
  write_ids("ids.npy", 4, 1);
  for (const char* name : {"llama", "qwen3", "gpt2", "gemma2_capped"}) {
    const std::string arms = "--arms weights-4-g32,per-token,static,static-down --json out.json ";
    Result result = quantize(name, arms + "--no-report");
    ASSERT_EQ(result.status, 0) << name << result.err;
    const Json compiled = json_of("out.json");
    result = quantize(name, arms + "--no-report --interpret");
    ASSERT_EQ(result.status, 0) << name << result.err;
    EXPECT_THAT(result.out, HasSubstr("Interpreted in f64.\n"));
    const Json exact = json_of("out.json");
    EXPECT_NEAR(compiled["corpora"][0]["loss"].get<double>(),
                exact["corpora"][0]["loss"].get<double>(), 1e-5);
    // The last bit of f32 takes a number to another level now and then, which counts in a model as
    // small as this.
    for (size_t a = 0; a < 4; ++a)
      EXPECT_NEAR(compiled["arms"][a]["corpora"][0]["loss"].get<double>(),
                  exact["arms"][a]["corpora"][0]["loss"].get<double>(), 5e-3)
          << name << " " << compiled["arms"][a]["name"];
  }
}

TEST_F(QuantizeCommand, TakesATextAndWeirsOwnAndTheDataOfARun) {
  write("text.txt", std::string(400, 'a') + std::string(400, 'b'));
  Result result = weir(
      "train out=r steps=1 batch=2 length=9 model.layers=1 model.d_model=16 model.heads=2 "
      "model.kv_heads=1 model.d_head=8 model.d_ff=24 data.kind=text data.files=text.txt "
      "data.tokenizer=bytes");
  ASSERT_EQ(result.status, 0) << result.err;
  const std::string run =
      "quantize --model r/run/checkpoints/step000001 --draw-tokens 9 "
      "--arms static --json out.json --sink-token auto ";
  result = weir(run + "--text text.txt --tokenizer bytes --batch 2 --length 9");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("The key with the largest mean mass is token "));
  EXPECT_EQ(json_of("out.json")["corpora"][1]["name"], "persuasion.txt of Weir");
  result = weir(run + "--text text.txt --tokenizer bytes --batch 2 --length 9 --one-text");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(json_of("out.json")["corpora"].size(), 1U);
  result = weir(run);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(json_of("out.json")["corpora"][0]["name"], "data of the run");
}

// Synthetic data need no text: sequences that were not trained on, and how many answers are right.
TEST_F(QuantizeCommand, EvaluatesHeldOutSequencesOfARun) {
  const std::string sizes =
      " model.layers=1 model.d_model=16 model.heads=2 model.d_head=8 model.d_ff=24 batch=3 "
      "length=12 steps=2 measure.validation_batches=4 ";
  const std::string arms =
      " --arms weights-8,per-token --draws 2 --draw-tokens 12 --json out.json ";
  Result result = weir(
      "train out=r data.kind=recall data.pairs=2 data.queries=2 data.keys=4 "
      "data.values=3 data.fillers=2 v_scale.variant=learned" +
      sizes);
  ASSERT_EQ(result.status, 0) << result.err;
  const Json trained =
      Json::parse(text_of(folder_ / "r/run/validation.jsonl")
                      .substr(text_of(folder_ / "r/run/validation.jsonl").find("{\"step\":2")));
  const std::string model = "quantize --model r/run/checkpoints/step000002";
  result = weir(model + arms + "--batch 12");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("12 x 12 tokens, held-out data of its run\n"),
                                HasSubstr("difference  recalled"),
                                HasSubstr("Loss is the mean of 24 targets in nats")));
  Json record = json_of("out.json");
  const Json& f32 = record["corpora"][0];
  EXPECT_EQ(f32["name"], "held-out data of the run");
  EXPECT_EQ(f32["input"]["kind"], "held-out data of the run");
  EXPECT_EQ(record["settings"]["v_scale"], "learned") << "as it was trained";
  // 4 batches of 3: the sequences of the run's own validation.
  EXPECT_NEAR(f32["loss"].get<double>(), trained["loss"].get<double>(), 1e-5);
  EXPECT_NEAR(f32["recalled"].get<double>(), trained["recalled"].get<double>(), 1e-12);
  double sum = 0;
  for (const Json& hits : f32["sequence_recalled"]) sum += hits.get<double>();
  EXPECT_NEAR(sum / 24, f32["recalled"].get<double>(), 1e-12);
  const Json& outcome = record["arms"][1]["corpora"][0];
  EXPECT_NEAR(outcome["recalled_difference"]["value"].get<double>(),
              outcome["recalled"].get<double>() - f32["recalled"].get<double>(), 1e-12);
  EXPECT_TRUE(outcome.contains("recalled_sink_exact"));
  result = weir(model + arms + "--batch 130 --overwrite");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(json_of("out.json")["settings"]["rows"], 130) << "more than a kernel has operands";
  EXPECT_EQ(json_of("out.json")["corpora"][0]["sequence_recalled"].size(), 130U);
  result = weir(model + arms + "--data training --overwrite");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("3 x 12 tokens, the first batch of its run\n"));
  EXPECT_NE(json_of("out.json")["provenance"]["tokens"], record["provenance"]["tokens"]);

  ASSERT_EQ(weir("train out=b" + sizes).status, 0);
  result = weir("quantize --model b/run/checkpoints/step000002 --overwrite" + arms);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(json_of("out.json")["corpora"][0]["sequence_targets"][0], 12);
  EXPECT_TRUE(json_of("out.json")["corpora"][0].contains("recalled"));
  result = weir("check --model b/run/checkpoints/step000002 --data held-out --batch 2");
  EXPECT_THAT(result.out, HasSubstr("2 x 12 tokens, held-out data of its run\n"));
}

TEST_F(QuantizeCommand, SaysWhichDataARunHas) {
  write("text.txt", std::string(3000, 'a'));
  const std::string train =
      "train steps=1 batch=2 length=9 model.layers=1 model.d_model=16 model.heads=2 model.d_head=8 "
      "model.d_ff=24 data.kind=text data.files=text.txt ";
  ASSERT_EQ(weir(train + "out=r").status, 0);
  ASSERT_EQ(weir(train + "out=h data.validation=0.1").status, 0);
  const auto quantize_run = [&](const std::string& run, const std::string& options) {
    return weir("quantize --model " + run + "/run/checkpoints/step000001 --arms weights-8 " +
                options);
  };
  EXPECT_THAT(quantize_run("r", "--data held-out").err,
              HasSubstr("the run holds nothing out of its text (data.validation)"));
  EXPECT_THAT(quantize_run("h", "--data held-out").err,
              HasSubstr("sequences of 9 tokens are asked for, but the run holds out 33."));
  EXPECT_THAT(quantize_run("h", "--data held-out --batch 3 --draws 1 --draw-tokens 9").out,
              HasSubstr("3 x 9 tokens, held-out data of its run\n"));
  EXPECT_THAT(quantize_run("r", "--text text.txt --data training").err,
              HasSubstr("--data is of the data of the run. Give it without --tokens and --text."));
  write_ids("ids.npy", 4, 1);
  EXPECT_THAT(quantize("llama", "--data held-out").err, HasSubstr("is no checkpoint of one."));
  EXPECT_THAT(weir("check --model r/run/checkpoints/step000001 --batch 3").err,
              HasSubstr("or with --data held-out of so many sequences."));
}

TEST_F(QuantizeCommand, SaysWhatIsWrongAtOnce) {
  write_ids("ids.npy", 4, 1);
  Result result = quantize("llama",
                           "--arms per-token,statik --one-text --tokens2 ids.npy "
                           "--confidence 2");
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("there is no arm 'statik'. Did you mean static"),
                                HasSubstr("--one-text leaves the second text out."),
                                HasSubstr("--confidence")));
  result = quantize("llama", "--sink-token 9");
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, HasSubstr("--sink-token is 9, but a sequence has the tokens 0 to 8."));
  result = quantize("llama", "--text2 ids.npy");
  EXPECT_THAT(result.err, HasSubstr("--text2 is tokenised as --text is, which is not given."));
  result = weir(fmt::format("quantize --model {} --tokens ids.npy --draws 2 --draw-tokens 18",
                            model("llama")));
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err,
              HasSubstr("4 sequences of 9 tokens are given, but 4 are needed behind those that are "
                        "evaluated. Give more, or ask for fewer."));
  result = quantize("llama", "--memory 1MiB");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("[quantize] 1 sequence of 9 tokens at a time needs "));
}

}  // namespace
