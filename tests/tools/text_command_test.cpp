// Text on the way into `weir measure`, `eval`, `tokens`, `train` and `convert`: which tokens stand
// around it, where the tokenizer comes from, and what is refused.
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
using ::testing::Not;
using Result = weir::test::CommandResult;

const std::string kTiny =
    "steps=1 batch=2 length=8 model.layers=1 model.d_model=16 model.d_head=8 model.heads=2 "
    "model.d_ff=24 optimizer.warmup=1 measure.steps=1 ";

// A model of 257 tokens in the folder "model": the bytes, and [END], which is no usual name.
class TextCommand : public weir::test::Command {
 protected:
  void SetUp() override {
    write("a.txt", "The stream flows to the sea, and the sea is not full.");
    write("two.jsonl", "{\"text\": \"one stream\"}\n{\"text\": \"\"}\n{\"text\": \"two seas\"}\n");
    const Result run =
        weir("train out=run data.kind=text data.files=a.txt model.vocabulary=257 " + kTiny);
    ASSERT_EQ(run.status, 0) << run.err;
    fs::rename(folder_ / "run/run/checkpoints/step000001", folder_ / "model");
    Json tokenizer = json_of("model/tokenizer.json");
    tokenizer["added_tokens"].push_back(
        {{"id", 256}, {"content", "[END]"}, {"special", true}, {"normalized", false}});
    write("model/tokenizer.json", tokenizer.dump());
    write("model/tokenizer_config.json", R"({"eos_token": {"content": "[END]"}})");
  }
  Json json_of(const std::string& name) const { return Json::parse(text_of(folder_ / name)); }
  void write_ids(const std::vector<int64_t>& shape, const std::vector<int32_t>& ids) const {
    weir::write_npy((folder_ / "ids.npy").string(),
                    weir::NpyView{weir::FileDtype::i32, shape, std::as_bytes(std::span(ids))});
  }
};

TEST_F(TextCommand, AUsageErrorComesBeforeAnyOutput) {
  for (const char* command :
       {"measure --model model --text a.txt --length 8 --v-scale-sigma 5",
        "measure --model model --text a.txt --length 8 --map 9.9 --report out.html",
        "eval --model model --text a.txt --v-scale-sigma 5"}) {
    const Result result = weir(command);
    EXPECT_EQ(result.status, 2) << command << result.err;
    EXPECT_EQ(result.out, "") << command;
  }
}

TEST_F(TextCommand, AnEndTokenOfAnyNameSeparates) {
  Result result = weir(
      "measure --model model --text two.jsonl --batch 1 --length 18 --no-report "
      "--json m.json");
  ASSERT_EQ(result.status, 0) << result.err;
  const Json separator = {
      {"id", 256}, {"token", "[END]"}, {"source", "tokenizer_config.json: eos_token"}};
  const Json tokens = json_of("m.json")["tokens"];
  EXPECT_EQ(tokens["separator"], separator);
  EXPECT_EQ(tokens["begin_token"], (Json{{"id", nullptr}, {"source", "the tokenizer adds none"}}));
  result = weir("eval --model model --text two.jsonl --json e.json");
  ASSERT_EQ(result.status, 0) << result.err;
  const Json record = json_of("e.json");
  EXPECT_EQ(record["separator"], separator);
  EXPECT_EQ(record["tokens"], 10 + 8 - 1) << "the separator is no token of the text";
  result =
      weir("train out=again data.kind=text data.files=two.jsonl data.tokenizer=model " + kTiny);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(json_of("again/run.json")["arms"][0]["data"]["separator"], separator);
  EXPECT_EQ(json_of("again/run.json")["arms"][0]["data"]["tokens"], 10 + 1 + 8 + 1);
}

TEST_F(TextCommand, WithoutAnEndTokenOneDocumentIsEnough) {
  fs::remove(folder_ / "model/tokenizer_config.json");
  Result result = weir("eval --model model --text a.txt --json e.json");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(json_of("e.json")["separator"]["id"], nullptr);
  result = weir("eval --model model --text two.jsonl");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("there are several documents, but no file says which token"));
  EXPECT_EQ(weir("eval --model model --text two.jsonl --separator none").status, 0);
  EXPECT_EQ(weir("eval --model model --text two.jsonl --separator [END]").status, 0);
  result = weir("train out=x data.kind=text data.files=two.jsonl data.tokenizer=model " + kTiny);
  EXPECT_THAT(result.err, HasSubstr("Give data.separator with a token, an id, or none."));
  EXPECT_EQ(weir("train out=y data.kind=text data.files=two.jsonl data.tokenizer=model "
                 "data.separator=none " +
                 kTiny)
                .status,
            0);
}

TEST_F(TextCommand, ABeginTokenIsTheTokenizersOrTheUsers) {
  write("model/tokenizer_config.json",
        R"({"eos_token": "[END]", "bos_token": "[END]", "add_bos_token": true})");
  Result result = weir("eval --model model --text a.txt --json e.json");
  ASSERT_EQ(result.status, 0) << result.err;
  Json record = json_of("e.json");
  EXPECT_EQ(record["begin_token"]["id"], 256);
  EXPECT_EQ(record["tokens"], 53) << "with a begin token the first is predicted, too";
  ASSERT_EQ(weir("eval --model model --text a.txt --begin-token none --json e.json").status, 0);
  EXPECT_EQ(json_of("e.json")["tokens"], 52);
  EXPECT_NE(json_of("e.json")["loss"], record["loss"]);
  // The same numbers from ids that stand in a file.
  ASSERT_EQ(weir("tokens --tokenizer model --text a.txt --length 27 --batch 2 --begin-token auto "
                 "--out ids.npy")
                .status,
            0);
  const auto ids = weir::read_npy((folder_ / "ids.npy").string());
  EXPECT_EQ(ids.shape, (std::vector<int64_t>{2, 27}));
  EXPECT_EQ(ids.as<int32_t>()[0], 256);
  EXPECT_EQ(ids.as<int32_t>()[1], 'T');
  EXPECT_EQ(ids.as<int32_t>()[27], 256);
  ASSERT_EQ(weir("eval --model model --tokens ids.npy --context 26 --json i.json").status, 0);
  ASSERT_EQ(weir("measure --model model --tokens ids.npy --no-report --json m.json").status, 0);
  EXPECT_EQ(json_of("i.json")["tokens"], 52);
  EXPECT_NEAR(json_of("i.json")["loss"].get<double>(), json_of("m.json")["loss"].get<double>(),
              1e-5);
  EXPECT_FALSE(json_of("m.json")["tokens"].contains("begin_token"))
      << "of an array it is not known";
}

// Ids without a begin token, with one on the command line, are the text with it.
TEST_F(TextCommand, ABeginTokenMayStandBeforeReadyMadeIds) {
  const std::string text = text_of(folder_ / "a.txt");
  const std::vector<int32_t> ids(text.begin(), text.begin() + 52);
  write_ids({2, 26}, ids);
  const std::vector<uint16_t> halves(text.begin(), text.begin() + 52);
  write("ids.bin", std::string(reinterpret_cast<const char*>(halves.data()), 104));
  const std::string cut = " --batch 2 --length 26 ";
  for (const std::string command :
       {"measure --no-report", "check", "dial --dial value --values 2 --no-report"}) {
    const std::string on = command + " --model model --json m.json --overwrite ";
    Result result = weir(on + "--text a.txt --begin-token 256" + cut);
    ASSERT_EQ(result.status, 0) << result.err;
    const Json of_text = json_of("m.json");
    for (const std::string& input : {std::string("--tokens ids.npy --begin-token 256"),
                                     std::string("--tokens ids.npy --begin-token [END]"),
                                     "--tokens ids.bin:uint16 --begin-token 256" + cut}) {
      result = weir(on + input);
      ASSERT_EQ(result.status, 0) << result.err;
      const Json record = json_of("m.json");
      EXPECT_EQ(record["loss"], of_text["loss"]) << input;
      EXPECT_EQ(record["provenance"]["tokens"]["xxh3_128"],
                of_text["provenance"]["tokens"]["xxh3_128"]);
      EXPECT_EQ(record["provenance"]["tokens"]["begin_token"], 256);
      EXPECT_EQ(record["tokens"]["begin_token"]["id"], 256);
      EXPECT_EQ(record["tokens"]["begin_token"]["source"], "--begin-token");
    }
    ASSERT_EQ(weir(on + "--tokens ids.npy").status, 0);
    EXPECT_NE(json_of("m.json")["loss"], of_text["loss"]);
  }
  ASSERT_EQ(weir("eval --model model --tokens ids.npy --begin-token 256 --json e.json").status, 0);
  EXPECT_EQ(json_of("e.json")["tokens"], 52) << "all of them are targets";
  EXPECT_EQ(json_of("e.json")["begin_token"]["id"], 256);
  EXPECT_EQ(json_of("e.json")["provenance"]["tokens"]["begin_token"], 256);
}

TEST_F(TextCommand, ABeginTokenOfIdsHasToBeOne) {
  const std::vector<int32_t> ids = {1, 2, 3};
  write_ids({1, 3}, ids);
  for (const char* command : {"measure", "check", "dial --dial value", "eval"}) {
    const std::string on = std::string(command) + " --model model --tokens ids.npy ";
    Result result = weir(on + "--begin-token 257");
    EXPECT_NE(result.status, 0);
    EXPECT_THAT(result.err, HasSubstr("--begin-token is 257, the id 257, but the model has a "
                                      "vocabulary of 257: ids 0 to 256."))
        << command;
    result = weir(on + "--begin-token [BOS]");
    EXPECT_NE(result.status, 0);
    EXPECT_THAT(result.err, HasSubstr("--begin-token is '[BOS]'; none, auto, a token or an id "
                                      "below 257 is needed"))
        << command;
    result = weir(on + "--separator 3");
    EXPECT_THAT(result.err,
                HasSubstr("--separator is of --text; the array of --tokens is taken as it is."));
  }
}

TEST_F(TextCommand, ATokenizerMayBeGivenByItself) {
  fs::rename(folder_ / "model/tokenizer.json", folder_ / "tokenizer.json");
  fs::rename(folder_ / "model/tokenizer_config.json", folder_ / "tokenizer_config.json");
  EXPECT_EQ(weir("eval --model model --text a.txt").status, 1);
  const Result result = weir("eval --model model --text a.txt --tokenizer tokenizer.json");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(weir("measure --model model --text a.txt --tokenizer bytes --batch 1 --length 8 "
                 "--no-report")
                .status,
            0);
}

TEST_F(TextCommand, ConvertCopiesATokenizerThatItCannotRead) {
  const std::string unknown = R"({"model": {"type": "WordPiece", "vocab": {}}})";
  write("model/tokenizer.json", unknown);
  write("model/tokenizer.model", "\n\x05<unk>");
  write("model/generation_config.json", "{}");
  const Result result = weir("convert model hf --dtype bf16");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(text_of(folder_ / "hf/tokenizer.json"), unknown);
  EXPECT_EQ(text_of(folder_ / "hf/tokenizer.model"), "\n\x05<unk>");
  EXPECT_EQ(text_of(folder_ / "hf/generation_config.json"), "{}");
  EXPECT_THAT(result.out, HasSubstr("with its tokenizer"));
  const weir::SafetensorsFile weights((folder_ / "hf/model.safetensors").string());
  EXPECT_EQ(weights.entries()[0].dtype, weir::FileDtype::bf16);
}

TEST_F(TextCommand, WhatIsNoTextIsRefusedByEveryCommand) {
  write("b.parquet", "PAR1");
  write("c.txt", "\xFF\xFEx");
  const std::string text = "b.parquet,c.txt,absent.txt";
  for (const std::string& command :
       {"eval --model model --text " + text, "measure --model model --text " + text,
        std::string("tokens --tokenizer bytes --text b.parquet c.txt absent.txt"),
        "train out=x data.kind=text data.files=" + text}) {
    const Result result = weir(command);
    EXPECT_EQ(result.status, 1) << command;
    EXPECT_THAT(result.err, AllOf(HasSubstr("b.parquet is a Parquet file. "),
                                  HasSubstr("c.txt is UTF-16, but UTF-8 is needed. "),
                                  HasSubstr("cannot open absent.txt: No such file")))
        << command;
  }
  EXPECT_FALSE(fs::exists(folder_ / "x"));
}

TEST_F(TextCommand, NamesWithCommasAndOtherKeysAreRead) {
  write("a,b.txt", "one stream");
  EXPECT_EQ(weir("eval --model model --text a,b.txt").status, 0);
  EXPECT_EQ(weir("train out=x data.kind=text data.files=a,b.txt " + kTiny).status, 0);
  write("run.json", R"({"data": {"kind": "text", "files": ["a,b.txt", "a.txt"]}})");
  const Result both = weir("train run.json out=y " + kTiny);
  EXPECT_EQ(both.status, 0) << both.err;
  EXPECT_EQ(json_of("y/run.json")["arms"][0]["data"]["documents"], 2);
  write("c.jsonl", "{\"content\": \"one stream\"}\n");
  const Result missing = weir("eval --model model --text c.jsonl");
  EXPECT_THAT(missing.err, HasSubstr("Strings of the line are content: choose one as the text key "
                                     "(--text-key, data.text_key)."));
  EXPECT_EQ(weir("eval --model model --text c.jsonl --text-key content").status, 0);
  EXPECT_EQ(weir("tokens --tokenizer bytes --text c.jsonl --text-key content").out,
            "111 110 101 32 115 116 114 101 97 109\n");
}

}  // namespace
