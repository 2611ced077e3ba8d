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
