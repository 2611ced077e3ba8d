// `weir dial` on checkpoints: what it prints and writes, and what it refuses.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "io/npy.h"
#include "io/safetensors.h"
#include "tools/command_test_util.h"

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Result = weir::test::CommandResult;

class DialCommand : public weir::test::Command {
 protected:
  static std::string model(const std::string& name) {
    return fmt::format("{}/models/{}", WEIR_TEST_DATA, name);
  }
  // The tokens of a model's reference as ids.npy, 2 x 9.
  void write_reference_ids(const std::string& name) const {
    const weir::SafetensorsFile reference(model(name) + "/reference.safetensors");
    const std::vector<float> floats = reference.to_f32("tokens");
    const std::vector<int32_t> ids(floats.begin(), floats.end());
    weir::write_npy(
        (folder_ / "ids.npy").string(),
        {weir::FileDtype::i32, reference.find("tokens")->shape, std::as_bytes(std::span(ids))});
  }
  Result dial(const std::string& name, const std::string& options) const {
    return weir(fmt::format("dial --model {} --tokens ids.npy {}", model(name), options));
  }
  Json json_of(const std::string& name) const { return Json::parse(text_of(folder_ / name)); }
};

TEST_F(DialCommand, WritesTableRecordAndReport) {
  write_reference_ids("llama");
  const Result result = dial("llama", "--dial mass --json out.json");
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* text :
       {"llama: 2 layers, 4 heads; 2 x 9 tokens\n", "Peak memory ", "exponent, g frozen",
        "exponent, g recomputed", "\nloss 3.53", "|dv| <= M max |g|: holds; worst ", "load ",
        " stated\n", "Record: out.json\n", "/out.html\n"})
    EXPECT_THAT(result.out, HasSubstr(text));
  const Json record = json_of("out.json");
  EXPECT_EQ(record["format"], "weir.dial/1");
  EXPECT_THAT(record["provenance"]["command"].get<std::string>(), StartsWith("weir dial --model"));
  EXPECT_EQ(record["provenance"]["input"]["kind"], "tokens");
  EXPECT_EQ(record["layers"].size(), 2u);
  EXPECT_EQ(record["layers"][1]["frozen"]["energy"].size(), 21u);
  EXPECT_EQ(record["layers"][1]["recomputed"]["loss"].size(), 21u);
  const std::string page = text_of(folder_ / "out.html");
  EXPECT_THAT(page, AllOf(StartsWith("<!DOCTYPE html>"), HasSubstr("<h1>llama</h1>"),
                          HasSubstr("weir dial --model ")));
  // What it wrote is replaced, anything else is not.
  EXPECT_EQ(dial("llama", "--dial norm --layer 1 --upstream frozen --json out.json").status, 0);
  write("notes.json", "mine");
  EXPECT_EQ(dial("llama", "--dial norm --json notes.json").status, 1);
  EXPECT_EQ(text_of(folder_ / "notes.json"), "mine");
}

TEST_F(DialCommand, TurnsEveryDialOfEveryArchitecture) {
  for (const char* name : {"llama", "qwen3", "gpt2", "gemma2_capped"}) {
    write_reference_ids(name);
    for (const char* options :
         {"mass --values=-2,2", "mass --form multiply --values 0.5,1,2 --upstream frozen",
          "norm --values 1,2", "norm --form stream --branch mlp --values 1,2",
          "value --head 1 --values 0,1", "position --values 0,4", "mask --random 1"}) {
      const bool capped = std::string(name) == "gemma2_capped";
      const std::string dial_name = std::string(options).substr(0, 4);
      const bool adds = std::string(options).starts_with("mass --values") || dial_name == "mask";
      const Result result =
          dial(name, fmt::format("--layer 0 --no-report --json out.json --dial {}", options));
      if (capped && adds) {
        EXPECT_EQ(result.status, 2) << options;
        EXPECT_THAT(result.err, HasSubstr("so that nothing can be added to them"));
        continue;
      }
      ASSERT_EQ(result.status, 0) << name << " " << options << result.err;
      for (const Json& check : json_of("out.json")["checks"])
        EXPECT_TRUE(check["holds"].get<bool>()) << name << " " << options << check;
    }
  }
}

TEST_F(DialCommand, TakesRewritesMemoryAndTheInterpreter) {
  write_reference_ids("llama");
  const std::string mass = "--dial mass --layer 1 --values=-1,1 --json out.json --no-report ";
  Result result = dial("llama", mass + "--v-scale full --attention softmax-1");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(json_of("out.json")["settings"]["attention"], "softmax-1");
  result = dial("llama", mass);
  ASSERT_EQ(result.status, 0) << result.err;
  const double energy = json_of("out.json")["layers"][0]["recomputed"]["energy"][0][2];
  result = dial("llama", mass + "--interpret");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("Interpreted in f64.\n"));
  EXPECT_NEAR(json_of("out.json")["layers"][0]["recomputed"]["energy"][0][2].get<double>(), energy,
              1e-4 * energy);
  result = dial("llama", mass + "--memory 1MiB");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("1 sequence of 9 tokens at a time needs "));
}

TEST_F(DialCommand, FindsTheSink) {
  write_reference_ids("llama");
  const Result result =
      dial("llama", "--dial mass --upstream frozen --layer 0 --values 0,1 --sink-token auto");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("The key with the largest mean mass is token 0.\n"));
}

TEST_F(DialCommand, SaysWhatIsWrongAtOnce) {
  write_reference_ids("llama");
  const auto refused = [&](const std::string& options) {
    const Result result = dial("llama", options);
    EXPECT_EQ(result.status, 2) << result.err;
    return result.err;
  };
  EXPECT_THAT(refused(""), HasSubstr("--dial is missing: what is turned"));
  EXPECT_THAT(refused("--dial weight"), HasSubstr("'weight'"));
  EXPECT_THAT(refused("--dial mass --form branch"),
              HasSubstr("--form branch: the mass dial has the forms logit and multiply."));
  EXPECT_THAT(refused("--dial mask --form logit"), HasSubstr("the mask dial has no forms"));
  EXPECT_THAT(refused("--dial mass --branch mlp"), HasSubstr("--branch chooses a norm"));
  EXPECT_THAT(refused("--dial norm --head 1"), HasSubstr("the norm dial is of a whole layer"));
  EXPECT_THAT(refused("--dial value --upstream frozen"), HasSubstr("g is recomputed"));
  EXPECT_THAT(refused("--dial mass --seed 2"), HasSubstr("--seed chooses keys of the mask dial"));
  EXPECT_THAT(refused("--dial mass --layer 1,2 --head 4 --sink-token 9"),
              AllOf(HasSubstr("layer 2 is asked for, but the model has 0 to 1."),
                    HasSubstr("head 4 is asked for, but a layer has 0 to 3."),
                    HasSubstr("key 9 is asked for, but a sequence has 0 to 8.")));
  EXPECT_THAT(refused("--dial mass --values 1,x"),
              HasSubstr("'x' is no value of the mass dial: a number is needed."));
  EXPECT_THAT(refused("--dial mass --values ''"), HasSubstr("--values is empty."));
  EXPECT_THAT(refused("--dial position --values 9"), HasSubstr("which needs a key from 0 to 8."));
  EXPECT_FALSE(fs::exists(folder_ / "out.json"));
}

}  // namespace
