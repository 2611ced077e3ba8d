// `weir measure` and `weir eval` on checkpoints: what they print and write, and what they refuse.
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>

#include "io/hash.h"
#include "io/npy.h"
#include "io/safetensors.h"
#include "lab/reference_case.h"
#include "lab/report/measure_summary.h"
#include "tools/command_test_util.h"

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Result = weir::test::CommandResult;

class MeasureCommand : public weir::test::Command {
 protected:
  static std::string model(const std::string& name) {
    return fmt::format("{}/models/{}", WEIR_TEST_DATA, name);
  }
  void write_ids(const std::string& name, const std::vector<int64_t>& shape,
                 const std::vector<int32_t>& ids) const {
    weir::write_npy((folder_ / name).string(),
                    {weir::FileDtype::i32, shape, std::as_bytes(std::span(ids))});
  }
  // The tokens of a model's reference as ids.npy.
  void write_reference_ids(const std::string& name) const {
    weir::SafetensorsFile reference(model(name) + "/reference.safetensors");
    const std::vector<float> ids = reference.to_f32("tokens");
    write_ids("ids.npy", reference.find("tokens")->shape, {ids.begin(), ids.end()});
  }
  Json json_of(const std::string& name) const { return Json::parse(text_of(folder_ / name)); }
  void expect_record(const std::string& name, const std::string& reference) const {
    int compared = 0;
    Json record = json_of(name), expected = Json::parse(text_of(reference));
    record["model"]["name"] = expected["model"]["name"];
    EXPECT_TRUE(record["provenance"].is_object());
    record.erase("provenance");
    weir::test::expect_agree(record, expected, 1e-4, name, compared);
    EXPECT_GT(compared, 60);
  }
};

TEST_F(MeasureCommand, WritesRecordReportAndProbes) {
  write_reference_ids("llama");
  const Result result = weir("measure --model " + model("llama") +
                             " --tokens ids.npy --json out.json --map 1.2 --save-probes p.npz "
                             "--probe 'blocks.*.attn.hook_v' --probe 'blocks.0.ln2.hook_in.grad : "
                             "batch_sum'");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err,
              StartsWith("warning: tokens appear as their ids: [tokenizer] the folder"));
  for (const char* text : {"llama: 2 layers, 4 heads; 2 x 9 tokens\n", "Peak memory ",
                           "layer  sink rate  sink mass", "\nloss 3.53", "load ", " stated\n",
                           "Record: out.json\n", "Probes: p.npz\n", "/out.html\n"})
    EXPECT_THAT(result.out, HasSubstr(text));
  expect_record("out.json", model("llama") + "/record.json");
  const std::string page = text_of(folder_ / "out.html");
  EXPECT_THAT(page, AllOf(HasSubstr("<h1>llama</h1>"), HasSubstr("weir measure --model "),
                          Not(HasSubstr("<b>row sum</b>"))));
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const auto& [name, array] : weir::read_npz((folder_ / "p.npz").string()))
    shapes[name] = array.shape;
  const std::map<std::string, std::vector<int64_t>> expected = {
      {"blocks.0.attn.hook_v:raw", {2, 9, 2, 6}},
      {"blocks.1.attn.hook_v:raw", {2, 9, 2, 6}},
      {"blocks.0.ln2.hook_in.grad:batch_sum", {1, 9, 16}}};
  EXPECT_EQ(shapes, expected);
}

TEST_F(MeasureCommand, AppliesRewritesToAnyModel) {
  write_reference_ids("llama");
  const std::string measure = "measure --model " + model("llama") + " --tokens ids.npy ";
  for (const std::string& variant :
       std::vector<std::string>{"full", "learned", "backward", "forward"}) {
    const Result result = weir(measure + "--no-report --json v.json --v-scale " + variant);
    ASSERT_EQ(result.status, 0) << result.err;
    const bool half = variant == "backward" || variant == "forward";
    expect_record("v.json", fmt::format("{}/record_v_scale_{}{}.json", model("llama"), variant,
                                        half ? "_only" : ""));
    EXPECT_FALSE(fs::exists(folder_ / "v.html"));
  }
  const Result both = weir(measure + "--json b.json --v-scale full --attention softmax-1");
  ASSERT_EQ(both.status, 0) << both.err;
  expect_record("b.json", model("llama") + "/record_v_scale_full_softmax_1.json");
  EXPECT_THAT(text_of(folder_ / "b.html"),
              AllOf(HasSubstr("attention softmax-1"), HasSubstr("<b>row sum</b>"),
                    HasSubstr("\"row_sum\":[[")));
}

// Weights that a checkpoint does not have begin at stated values.
TEST_F(MeasureCommand, AppliesNormalisersWithWeightsOfTheirOwn) {
  for (const char* name : {"llama", "gpt2", "gemma2"}) {
    write_reference_ids(name);
    const std::string measure =
        "measure --no-report --json m.json --tokens ids.npy --model " + model(name);
    const auto loss_with = [&](const std::string& options, const std::string& warning) {
      const Result result = weir(measure + options);
      EXPECT_EQ(result.status, 0) << result.err;
      EXPECT_THAT(result.err, HasSubstr(warning));
      return json_of("m.json")["loss"].get<double>();
    };
    const double softmax = loss_with("", ""), softmax_1 = loss_with(" --attention softmax-1", "");
    EXPECT_NE(softmax, softmax_1);
    EXPECT_EQ(loss_with(" --attention sink-logit",
                        "sinks, which begins at 0: the result is that of softmax-1."),
              softmax_1);
    EXPECT_NEAR(loss_with(" --attention kv-bias", "kv_bias.key, which begins at 0: with such"),
                softmax_1, 1e-5);
    EXPECT_EQ(json_of("m.json")["settings"]["attention"], "kv-bias");
    for (const char* attention : {"softpick", "relu", "sigmoid"})
      EXPECT_NE(loss_with(std::string(" --attention ") + attention, ""), softmax) << attention;
    EXPECT_NE(loss_with(" --attention-gate element",
                        "output_gate.weight, which begins at 0: all gates are 1/2."),
              softmax);
    EXPECT_NE(loss_with(" --qk-norm true",
                        "qk_norm.query, which begins at 1: the norm of queries has no gain."),
              softmax);
  }
}

TEST_F(MeasureCommand, TakesGgufMemoryAndTheInterpreter) {
  write_reference_ids("qwen3");
  const std::string tokens = " --tokens ids.npy --no-report --json ";
  const std::vector<std::string> cases = {"/qwen3.gguf" + tokens + "a.json",
                                          tokens + "a.json --memory 2GiB --threads 1",
                                          tokens + "a.json --interpret"};
  for (const std::string& options : cases) {
    const Result result = weir("measure --model " + model("qwen3") + options);
    ASSERT_EQ(result.status, 0) << result.err;
    expect_record("a.json", model("qwen3") + "/record.json");
    EXPECT_EQ(result.out.find("Interpreted in f64") != std::string::npos,
              options.find("--interpret") != std::string::npos);
  }
}

TEST_F(MeasureCommand, MeasuresWhatConvertWrote) {
  write_reference_ids("qwen3");
  Result result = weir("convert " + model("qwen3") + "/qwen3.gguf folder");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(StartsWith("folder: "), HasSubstr(" as f32, ")));
  result = weir("measure --model folder --tokens ids.npy --no-report --json a.json");
  ASSERT_EQ(result.status, 0) << result.err;
  expect_record("a.json", model("qwen3") + "/record.json");
  result = weir("convert folder half --dtype bf16");
  ASSERT_EQ(result.status, 0) << result.err;
  const weir::SafetensorsFile half((folder_ / "half/model.safetensors").string());
  for (const weir::SafetensorsEntry& entry : half.entries())
    EXPECT_EQ(entry.dtype, weir::FileDtype::bf16) << entry.name;
  EXPECT_EQ(weir("convert nowhere other").status, 1);
  EXPECT_FALSE(fs::exists(folder_ / "other"));
}

TEST_F(MeasureCommand, ConvertWarnsOfLostStatesOfARewrite) {
  fs::copy(model("llama"), folder_ / "model");
  EXPECT_THAT(weir("convert model plain").err, Not(HasSubstr("V-scale")));
  Json config = Json::parse(text_of(folder_ / "model/config.json"));
  config["weir_rewrites"] = {{"v_scale.variant", "learned"}};
  write("model/config.json", config.dump());
  const Result result = weir("convert model copy");
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.err, HasSubstr("warning: copied as it is: [checkpoint] "));
  EXPECT_THAT(result.err, HasSubstr("model says that it was trained with V-scale learned, but has "
                                    "no tensor "));
}

TEST_F(MeasureCommand, ProfilesItsKernels) {
  write_reference_ids("llama");
  const Result result = weir("measure --model " + model("llama") +
                             " --tokens ids.npy --no-report --json a.json --profile p.json");
  ASSERT_EQ(result.status, 0) << result.err;
  expect_record("a.json", model("llama") + "/record.json");
  EXPECT_THAT(result.out, AllOf(HasSubstr("GB/s  kernel\n"), HasSubstr("Profile: p.json\n")));
  const Json profile = json_of("p.json");
  EXPECT_EQ(profile["format"], "weir.profile/1");
  EXPECT_EQ(profile["what"], "llama");
  EXPECT_EQ(profile["steps"], 1);
  EXPECT_LE(profile["kernel_seconds"], profile["step_seconds"]);
  int64_t products = 0;
  for (const Json& kernel : profile["kernels"])
    if (kernel["schedule"] == "matmul") products += kernel["runs"].get<int64_t>();
  EXPECT_GT(products, 2 * 7) << "forward, two layers of seven products";
}

TEST_F(MeasureCommand, ChoosesTheHeaviestKeyAsTheSink) {
  write_reference_ids("gpt2");
  const Result result = weir("measure --model " + model("gpt2") +
                             " --tokens ids.npy --sink-token auto --no-report --json a.json");
  ASSERT_EQ(result.status, 0) << result.err;
  const auto sink = json_of("a.json")["settings"]["sink_token"].get<int64_t>();
  EXPECT_THAT(result.out,
              HasSubstr(fmt::format("The key with the largest mean mass is token {}.", sink)));
}

TEST_F(MeasureCommand, RefusesWrongInput) {
  write_reference_ids("llama");
  write_ids("outside.npy", {1, 4}, {1, 29, 2, -1});
  write_ids("flat.npy", {4}, {1, 2, 3, 4});
  write("a.txt", "text");
  write("ids.bin", std::string(40, '\1'));
  const std::string llama = "measure --json x.json --model " + model("llama");
  const std::vector<std::pair<std::string, std::string>> usage = {
      {llama, "[measure] give either --tokens FILE.npy or --text FILE."},
      {llama + " --tokens ids.npy --text a.txt", "[measure] give either --tokens"},
      {llama + " --tokens ids.npy --profile p.json --interpret",
       "[measure] --profile times compiled kernels, of which --interpret has none."},
      {llama + " --tokens ids.npy --memory 10MiB --interpret",
       "[measure] --memory and --interpret exclude each other. The interpreter holds all values in "
       "f64, whatever they take."},
      {"eval --tokens ids.npy --memory 10MiB --interpret --model " + model("llama"),
       "--memory and --interpret exclude each other."},
      {llama + " --tokens ids.npy --map 2.0 --map 0.4",
       "[measure] 2 problems:\n  - --map 2.0: the model has layers 0 to 1 with heads 0 to 3."},
      {llama + " --tokens ids.npy --sink-token 9",
       "[measure] --sink-token is 9, but a sequence has the tokens 0 to 8."},
      {llama + " --tokens ids.npy --v-scale full --v-scale-lambda 0 --v-scale-sigma 0",
       "--v-scale-lambda is '0', but a number from 1e-09 to 1000000 is needed."},
      {llama + " --tokens ids.bin --batch 2 --length 8",
       "[measure] --tokens ids.bin is taken for an array, which has a shape of its own. If it "
       "holds "
       "ids without a header, as nanoGPT's train.bin, say their type: ids.bin:uint16 (or uint8,"},
      {llama + " --tokens ids.bin:float32 --batch 2 --length 8",
       "[measure] --tokens is 'ids.bin:float32', but a .npy file, or FILE:TYPE for"},
      {llama + " --tokens :uint8 --batch 2 --length 8", "[measure] --tokens is ':uint8', but a"},
      {llama + " --tokens ids.npy --sink-token first",
       "[measure] --sink-token is 'first', but a position or auto is needed."},
      {llama + " --text a.txt --length 9 --sink-token 9",
       "--sink-token is 9, but a sequence has the tokens 0 to 8."},
      {llama + " --tokens ids.npy --map 3",
       "[measure] --map is '3', but LAYER.HEAD, e.g. 12.3, is"},
      {llama + " --tokens ids.npy --map 3.-1", "--map is '3.-1', but LAYER.HEAD"},
      {llama + " --tokens ids.npy --no-report --map 0.0", "--map chooses an attention map of the"},
      {llama + " --tokens ids.npy --memory much", "[measure] --memory is 'much', but a size such"},
      {llama + " --tokens ids.npy --v-scale half", "[measure] --v-scale is 'half'. Use none, full"},
      {llama + " --tokens ids.npy --attention softmax2", "--attention is 'softmax2'. Use softmax"},
      {llama + " --tokens ids.npy --v-scale-lambda 2",
       "[measure] --v-scale-lambda is a constant of V-scale, which the model does not have."},
      {llama + " --tokens ids.npy --v-scale full --v-scale-layers 0,2",
       "--v-scale-layers has 2, but the model has layers 0 to 1."},
      {llama + " --tokens ids.npy --length 8", "--length cuts --text; the array of --tokens has"},
      {llama + " --text a.txt --length 0", "--length is '0', but a whole number from 1 to 1048576"},
      {llama + " --text a.txt --length -3", "--length is '-3', but a whole number from 1 to"},
      {llama + " --text a.txt --batch 0", "--batch is '0', but a whole number from 1 to 1048576"},
      {llama + " --text a.txt --threads -1",
       "--threads is '-1', but a whole number from 0 to 4096"},
      {llama + " --text a.txt --threads 99999", "--threads is '99999', but a whole number from 0"},
      {llama + " --tokens ids.npy --report x.json", "--json and --report are the same file"},
      {llama + " --tokens ids.npy --save-probes p.npz", "--save-probes needs at least one --probe"},
      {"measure --tokens ids.npy", "--model is missing"},
      {llama + " --tokens ids.npy --batch many", "--batch is 'many'"}};
  for (const auto& [arguments, message] : usage) {
    const Result result = weir(arguments);
    EXPECT_EQ(result.status, 2) << arguments;
    EXPECT_THAT(result.err, AllOf(HasSubstr(message), HasSubstr("--help`.\n"))) << arguments;
    EXPECT_EQ(result.out, "") << "nothing is done before";
  }
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"measure --model nowhere --tokens ids.npy", "[measure] --model: there is no nowhere."},
      {"measure --model nowhere --text absent.txt --json /nodir/x",
       "[measure] 3 problems:\n  - [text] cannot open absent.txt: No such file or directory.\n"
       "  - --model: there is no nowhere.\n"
       "  - --json: /nodir/x cannot be written: the folder /nodir does not exist.\n"},
      {llama + " --tokens ids.npy --report /nodir/x.html", "the folder /nodir does not exist."},
      {"measure --model . --tokens ids.npy", "holds neither config.json nor a .gguf file"},
      {llama + " --tokens absent.npy", "absent.npy"},
      {llama + " --tokens a.txt", "a.txt"},
      {llama + " --tokens flat.npy",
       "has the shape [4], but [batch, length + 1] is needed: the input and"},
      {llama + " --tokens outside.npy", "are outside the vocabulary of 29: "},
      {llama + " --text a.txt", "holds no tokenizer"},
      {llama + " --text a.txt --tokenizer bytes --batch 1 --length 2",
       "[text] the tokenizer (bytes, 256 entries) gives the id 116 ('t'), but the model has a "
       "vocabulary of 29. Give the tokenizer that the model was trained with, or leave"},
      {"eval --text a.txt --tokenizer bytes --model " + model("llama"),
       "gives the id 116 ('t'), but the model has a vocabulary of 29."},
      {llama + " --tokens ids.npy --memory 1MiB", "but only 1.0 MiB may be used. Allow more"},
      {llama + " --tokens ids.npy --probe 'model.norm.weight.grad'",
       "is the gradient of a weight, which a measurement does not compute."}};
  for (const auto& [arguments, message] : cases) {
    const Result result = weir(arguments);
    EXPECT_EQ(result.status, 1) << arguments;
    EXPECT_THAT(result.err, AllOf(StartsWith("error: ["), HasSubstr(message))) << arguments;
    EXPECT_FALSE(fs::exists(folder_ / "x.json")) << arguments;
  }
}

// What is wrong with the word is said before the model is looked for; what the model does not have,
// before anything is computed.
TEST_F(MeasureCommand, WrongProbesAreWrongUsage) {
  write_reference_ids("llama");
  for (const std::string& command :
       {"measure --tokens ids.npy --model " + model("llama"),
        std::string("measure --tokens ids.npy --model nowhere"), std::string("dump --layers 1")}) {
    const Result result =
        weir(command + " --probe 'blocks.0.attn.hook_v : nrm(head)' --probe 'x : map(400)'");
    EXPECT_EQ(result.status, 2) << command;
    EXPECT_THAT(result.err, AllOf(HasSubstr("unknown reduction 'nrm(head)'. Known: "),
                                  HasSubstr("'map(400)' needs the most cells of a side, 1 to 256")))
        << command;
  }
  const Result train = weir("train out=run 'measure.probes=blocks.0.attn.hook_v : nrm(head)'");
  EXPECT_EQ(train.status, 2);
  EXPECT_THAT(train.err, HasSubstr("unknown reduction 'nrm(head)'. Known: "));
  const Result absent =
      weir("measure --tokens ids.npy --probe 'blocks.0.atn.hook_v' --model " + model("llama"));
  EXPECT_EQ(absent.status, 2);
  EXPECT_THAT(absent.err, HasSubstr("blocks.0.attn.hook_v"));
  const std::string help = weir("probes --help").out;
  for (const char* reduction :
       {"batch_sum", "sum(axes)", "mean(axes)", "max(axes)", "min(axes)", "norm(axes)", "abs",
        "square", "select(axis=i..j)", "slice(axis,start,limit)", "column_mass", "column_square",
        "entropy", "row_max", "row_sum", "sink_column(key)", "map(n)"})
    EXPECT_THAT(help, HasSubstr(reduction));
}

// A checkpoint that Weir trained on text, as training left it.
class EvalCommand : public MeasureCommand {
 protected:
  void SetUp() override {
    std::string text;
    for (int i = 0; i < 300; ++i)
      text += fmt::format("The stream flows {} days to the sea; it is {}.\n", i, i * i % 17);
    write("a.txt", text);
    const std::string tokenizer = std::string(WEIR_TEST_DATA) + "/tokenizer/gpt2.json";
    const Result run =
        weir(fmt::format("train out=run steps=2 batch=2 length=16 data.kind=text data.files=a.txt "
                         "data.tokenizer={} model.layers=1 model.d_model=16 model.d_head=8 "
                         "model.heads=2 model.d_ff=24 optimizer.warmup=1 measure.steps=2",
                         tokenizer));
    ASSERT_EQ(run.status, 0) << run.err;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / "run"))
      if (entry.path().filename() == "model.safetensors")
        model_ = entry.path().parent_path().string();
    ASSERT_NE(model_, "");
    write("b.txt", text.substr(0, 400));
    const Result ids = weir(fmt::format("tokens --tokenizer {} --text b.txt --out b.npy", model_));
    ASSERT_EQ(ids.status, 0) << ids.err;
    count_ = weir::read_npy((folder_ / "b.npy").string()).shape.at(0);
    ASSERT_GT(count_, 40);
  }
  std::string model_;
  int64_t count_ = 0;
};

TEST_F(EvalCommand, AgreesWithMeasureOnOneWindow) {
  const Result eval = weir(
      fmt::format("eval --model {} --text b.txt --context {} --json e.json", model_, count_ - 1));
  ASSERT_EQ(eval.status, 0) << eval.err;
  const Result measure = weir(fmt::format(
      "measure --model {} --text b.txt --batch 1 --length {} --json m.json", model_, count_ - 1));
  ASSERT_EQ(measure.status, 0) << measure.err;
  const Json result = json_of("e.json"), record = json_of("m.json");
  EXPECT_EQ(result["windows"], 1);
  EXPECT_EQ(result["tokens"], count_ - 1);
  EXPECT_EQ(result["context"], count_ - 1);
  const double loss = result["loss"].get<double>();
  EXPECT_NEAR(loss, record["loss"].get<double>(), 1e-6 * loss);
  EXPECT_NEAR(result["perplexity"].get<double>(), std::exp(loss), 1e-6 * std::exp(loss));
  EXPECT_THAT(eval.out, HasSubstr(fmt::format("(loss {:.6f} nats), {} tokens counted once\n", loss,
                                              count_ - 1)));
  // The text of the tokens stands in the report, spaces visibly.
  EXPECT_THAT(text_of(folder_ / "m.html"), HasSubstr("\"labels\":[\"The\""));
}

// The same ids as text, as an array and as a file without a header.
TEST_F(EvalCommand, TakesIdsWithoutAHeader) {
  const weir::NpyArray ids = weir::read_npy((folder_ / "b.npy").string());
  std::vector<uint16_t> short_ids;
  for (int32_t id : ids.as<int32_t>()) short_ids.push_back(static_cast<uint16_t>(id));
  write("b.bin", std::string(reinterpret_cast<const char*>(short_ids.data()),
                             short_ids.size() * sizeof(uint16_t)));
  const std::string eval = "eval --context 16 --model " + model_;
  const Result text = weir(eval + " --text b.txt --json a.json"),
               bare = weir(eval + " --tokens b.bin:uint16 --json b.json");
  ASSERT_EQ(bare.status, 0) << bare.err;
  EXPECT_EQ(json_of("a.json")["loss"], json_of("b.json")["loss"]);
  EXPECT_EQ(json_of("b.json")["token_array"], "b.bin:uint16");
  const std::string measure = "measure --no-report --batch 2 --length 16 --model " + model_;
  ASSERT_EQ(weir(measure + " --text b.txt --json m.json").status, 0);
  const Result measured = weir(measure + " --tokens b.bin:uint16 --json n.json");
  ASSERT_EQ(measured.status, 0) << measured.err;
  EXPECT_EQ(json_of("m.json")["layers"], json_of("n.json")["layers"]);
  EXPECT_EQ(weir("tokens --tokenizer " + model_ + " --decode b.bin:uint16").out,
            text_of(folder_ / "b.txt"));
  for (const auto& [arguments, status, message] :
       std::vector<std::tuple<std::string, int, std::string>>{
           {eval + " --tokens b.bin", 1, "say their type: b.bin:uint16"},
           {measure + " --tokens b.bin:uint16 --batch 90", 2, "--batch is given 2 times"},
           {eval + " --tokens b.bin:float32", 2,
            "--tokens is 'b.bin:float32', but a .npy file, or FILE:TYPE for ids without a header "
            "with a type of uint8, uint16, uint32, uint64, int8, int16, int32, int64, is needed"},
           {eval + " --tokens c.bin:uint16", 1, "--tokens: there is no c.bin."},
           {eval + " --tokens b.bin:uint16 --json b.bin --overwrite", 2,
            "--json would be written over what --tokens reads, b.bin."},
           {"measure --length 999 --tokens b.bin:uint16 --model " + model_, 1,
            "which make 0 sequences of 999, but 4 are asked for"},
           {measure + " --tokens b.npy", 2,
            "--batch cuts --text; the array of --tokens has its"}}) {
    const Result result = weir(arguments);
    EXPECT_EQ(result.status, status) << arguments;
    EXPECT_THAT(result.err, HasSubstr(message)) << arguments;
  }
}

// Constants of V-scale are given, recorded, and kept with a checkpoint that was trained with them.
TEST_F(EvalCommand, VScaleConstantsAreGivenAndRecorded) {
  const std::string measure =
      "measure --no-report --json m.json --text b.txt --batch 1 --length 16 --model " + model_;
  Result result = weir(measure + " --v-scale full --v-scale-lambda 0.5 --v-scale-sigma 0.1");
  ASSERT_EQ(result.status, 0) << result.err;
  Json settings = json_of("m.json")["settings"];
  EXPECT_EQ(settings["v_scale_lambda"], 0.5);
  EXPECT_EQ(settings["v_scale_sigma"], 0.1);
  EXPECT_EQ(settings["v_scale_layers"], Json::array());
  EXPECT_NEAR(settings["v_scale_c"].get<double>(), 16 * 8 * 0.01 * 0.5, 1e-12);
  const double half = json_of("m.json")["loss"].get<double>();
  ASSERT_EQ(weir(measure + " --v-scale full").status, 0);
  const double whole = json_of("m.json")["loss"].get<double>();
  EXPECT_NE(half, whole);
  result = weir(measure + " --v-scale learned");
  EXPECT_THAT(result.err, HasSubstr("has no theta, with which learned V-scale begins at 0: the "
                                    "result is that of full."));
  EXPECT_EQ(json_of("m.json")["loss"].get<double>(), whole);
  ASSERT_EQ(weir(measure + " --v-scale full --v-scale-lambda 1 --v-scale-sigma 0.02").status, 0);
  EXPECT_EQ(json_of("m.json")["loss"].get<double>(), whole);
  result = weir(
      "train out=scaled steps=1 batch=2 length=8 model.layers=2 model.d_model=16 "
      "model.heads=2 model.d_ff=24 data.kind=text data.files=a.txt v_scale.layers=1 "
      "v_scale.variant=full v_scale.lambda=2 measure.metrics=false");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("There is no report, since measure.metrics is false"));
  const std::string scaled = "--model scaled/run/checkpoints/step000001 ";
  result = weir("measure --no-report --json s.json --text b.txt --batch 1 --length 8 " + scaled);
  ASSERT_EQ(result.status, 0) << result.err;
  settings = json_of("s.json")["settings"];
  EXPECT_EQ(settings["v_scale"], "full");
  EXPECT_EQ(settings["v_scale_lambda"], 2);
  EXPECT_EQ(settings["v_scale_layers"], Json::array({1}));
  result = weir("probes '*.hook_v_scaled' " + scaled);
  EXPECT_THAT(result.out, HasSubstr("blocks.1.attn.hook_v_scaled"));
  EXPECT_EQ(result.out.find("blocks.0.attn.hook_v_scaled"), std::string::npos);
  EXPECT_EQ(weir("probes --layers 3 " + scaled).status, 2);
}

// Interventions are options of a measurement, travel with a checkpoint and its copies, and are
// stated.
TEST_F(EvalCommand, InterventionsAreGivenKeptAndRecorded) {
  const std::string measure = "measure --no-report --text b.txt --batch 1 --length 16 --json ";
  Result result = weir(measure + "plain.json --model " + model_);
  ASSERT_EQ(result.status, 0) << result.err;
  result =
      weir(measure + "gain.json --sink-gradient-gain 4 --sink-gradient-token 2 --model " + model_);
  ASSERT_EQ(result.status, 0) << result.err;
  Json settings = json_of("gain.json")["settings"];
  EXPECT_EQ(settings["sink_gradient_gain"], 4);
  EXPECT_EQ(settings["sink_gradient_token"], 2);
  EXPECT_FALSE(json_of("plain.json")["settings"].contains("sink_gradient_gain"));
  EXPECT_EQ(json_of("gain.json")["loss"], json_of("plain.json")["loss"]) << "to the bit";
  EXPECT_NE(json_of("gain.json")["layers"][0]["grad_norm"]["v"],
            json_of("plain.json")["layers"][0]["grad_norm"]["v"]);
  result = weir(measure + "gate.json --value-gate head --model " + model_);
  EXPECT_THAT(result.err, HasSubstr("which begins at 0: all gates are 1/2, values are halved"));
  EXPECT_EQ(json_of("gate.json")["settings"]["value_gate"], "head");
  for (const auto& [options, message] : std::vector<std::pair<std::string, std::string>>{
           {"--sink-gradient-token 3",
            "[measure] --sink-gradient-token changes nothing without the rewrite that it belongs "
            "to. Give it, too, e.g. --sink-gradient-gain 0."},
           {"--value-gate head --value-gate-layers 9",
            "[measure] --value-gate-layers has 9, but the model has layers 0 to "},
           {"--norm-jacobian other", "--norm-jacobian is 'other'. Use exact or without-rms."}}) {
    result = weir(measure + "x.json " + options + " --model " + model_);
    EXPECT_EQ(result.status, 2) << options;
    EXPECT_THAT(result.err, HasSubstr(message));
  }
  result = weir(
      "train out=gated steps=1 batch=2 length=8 model.layers=2 model.d_model=16 model.heads=2 "
      "model.d_ff=24 data.kind=text data.files=a.txt value_gate.variant=head "
      "model.norm_place=sandwich model.norm_gate=2 measure.metrics=false");
  ASSERT_EQ(result.status, 0) << result.err;
  const std::string gated = "gated/run/checkpoints/step000001";
  ASSERT_EQ(weir("convert " + gated + " copy").status, 0);
  for (const char* folder : {gated.c_str(), "copy"}) {
    result =
        weir(fmt::format("measure --no-report --text b.txt --batch 1 --length 8 --json {}.json "
                         "--model {}",
                         folder == gated ? "first" : "second", folder));
    ASSERT_EQ(result.status, 0) << result.err;
  }
  EXPECT_EQ(json_of("first.json")["loss"], json_of("second.json")["loss"]);
  EXPECT_EQ(json_of("second.json")["settings"]["value_gate"], "head");
  EXPECT_THAT(weir("probes '*.hook_v_gate' --model copy").out,
              HasSubstr("blocks.1.attn.hook_v_gate"));
}

TEST_F(EvalCommand, RecordsSayWhatTheyComeFrom) {
  const std::string measure =
      fmt::format("measure --model {} --text b.txt --batch 2 --length 16 --no-report", model_);
  ASSERT_EQ(weir(measure + " --json a.json").status, 0);
  ASSERT_EQ(weir(measure + " --json b.json --threads 1").status, 0);
  Json a = json_of("a.json"), b = json_of("b.json");
  const Json from = a["provenance"];
  EXPECT_THAT(from["command"].get<std::string>(), HasSubstr("weir measure --model "));
  EXPECT_THAT(from["command"].get<std::string>(), ::testing::EndsWith("--json a.json"));
  EXPECT_TRUE(std::regex_match(from["time"].get<std::string>(), std::regex("20..-..-..T..:..:..Z")))
      << from["time"];
  EXPECT_TRUE(from["versions"]["weir"].is_string());
  EXPECT_THAT(from["target"].get<std::string>(), HasSubstr("x86-64"));
  EXPECT_THAT(from["model"]["path"].get<std::string>(), StartsWith("/"));
  const std::string weights = model_ + "/model.safetensors";
  ASSERT_EQ(from["model"]["weights"].size(), 1);
  EXPECT_EQ(from["model"]["weights"][0]["xxh3_128"], weir::hash_of_file(weights));
  EXPECT_EQ(from["model"]["weights"][0]["bytes"], fs::file_size(weights));
  EXPECT_EQ(from["input"]["kind"], "text");
  EXPECT_EQ(from["input"]["file_count"], 1);
  EXPECT_EQ(from["input"]["files"][0]["path"], fs::canonical(folder_ / "b.txt").string());
  EXPECT_EQ(from["input"]["files"][0]["xxh3_128"],
            weir::hash_of_file((folder_ / "b.txt").string()));
  EXPECT_THAT(from["input"]["tokenizer"]["description"].get<std::string>(), HasSubstr("BPE"));
  EXPECT_TRUE(from["tokens"]["begin_token"].is_null());
  EXPECT_TRUE(from["tokens"]["separator"].is_number_integer());
  // The first 33 ids of the text in two rows of 17, of which one is shared.
  const weir::NpyArray ids = weir::read_npy((folder_ / "b.npy").string());
  const auto all = ids.as<int32_t>();
  std::vector<int32_t> rows(all.begin(), all.begin() + 17);
  rows.insert(rows.end(), all.begin() + 16, all.begin() + 33);
  weir::Hasher hasher;
  hasher.add({reinterpret_cast<const char*>(rows.data()), rows.size() * sizeof(int32_t)});
  EXPECT_EQ(from["tokens"]["xxh3_128"], hasher.hex_128());
  // The rest of a record does not depend on when and where.
  a.erase("provenance");
  b.erase("provenance");
  EXPECT_EQ(a, b);

  ASSERT_EQ(weir("eval --model " + model_ + " --text b.txt --context 16 --json e.json").status, 0);
  const Json eval = json_of("e.json")["provenance"];
  EXPECT_EQ(eval["model"], from["model"]);
  EXPECT_EQ(eval["input"], from["input"]);
  EXPECT_NE(eval["tokens"]["xxh3_128"], from["tokens"]["xxh3_128"]) << "all ids, not two windows";
}

TEST_F(MeasureCommand, ShortSequencesHaveNoSinkRate) {
  write_reference_ids("llama");  // of 9 tokens
  const Result result =
      weir("measure --model " + model("llama") + " --tokens ids.npy --json out.json");
  ASSERT_EQ(result.status, 0) << result.err;
  const char* sentence =
      "The sink rate says nothing here: over 9 queries uniform attention itself has a sink score "
      "of 0.314, above the threshold of 0.3. Longer sequences lower it.";
  EXPECT_THAT(result.out, HasSubstr(std::string(sentence) + "\n"));
  EXPECT_EQ(json_of("out.json")["layers"][1]["sink_rate_null"], 1);
  const std::string page = text_of(folder_ / "out.html");
  EXPECT_THAT(page, HasSubstr(fmt::format("<b>{}</b>", sentence)));
  EXPECT_THAT(page, Not(HasSubstr("of heads and sequences sink at")));
  EXPECT_THAT(page, HasSubstr("<th scope=\"row\">input.files[0].xxh3_128</th>"));
  // Ten tokens have one: the mean of 1/(t + 1) is 0.293 there.
  EXPECT_EQ(weir::sink_rate_caveat(0.3, 0.2929, 10), "");
}

TEST_F(EvalCommand, CountsEveryTokenOnceWhateverTheStride) {
  std::vector<double> losses;
  for (const int64_t stride : {16, 5, 1}) {
    const Result eval = weir(fmt::format(
        "eval --model {} --text b.txt --context 16 --stride {} --json e.json", model_, stride));
    ASSERT_EQ(eval.status, 0) << eval.err;
    const Json result = json_of("e.json");
    EXPECT_EQ(result["tokens"], count_ - 1);
    EXPECT_EQ(result["windows"], 1 + (count_ - 1 - 16 + stride - 1) / stride);
    losses.push_back(result["loss"].get<double>());
  }
  EXPECT_NE(losses[0], losses[1]);
  const Result interpreted = weir("eval --interpret --model " + model_ +
                                  " --text b.txt --context 16 --stride 16 --json i.json");
  ASSERT_EQ(interpreted.status, 0) << interpreted.err;
  EXPECT_NEAR(json_of("i.json")["loss"].get<double>(), losses[0], 1e-5 * losses[0]);
}

TEST_F(EvalCommand, RefusesWrongInput) {
  write("empty.txt", "");
  const std::string eval = "eval --json x.json --model " + model_;
  for (const auto& [arguments, message] : std::vector<std::pair<std::string, std::string>>{
           {eval + " --text absent.txt", "absent.txt"},
           {eval + " --text empty.txt", "[text] empty.txt is empty."},
           {"eval --text b.txt --model " + model("llama"), "holds no tokenizer"}}) {
    const Result result = weir(arguments);
    EXPECT_EQ(result.status, 1) << arguments;
    EXPECT_THAT(result.err, AllOf(HasSubstr("error: ["), HasSubstr(message))) << arguments;
  }
  EXPECT_FALSE(fs::exists(folder_ / "x.json"));
  for (const auto& [arguments, message] : std::vector<std::pair<std::string, std::string>>{
           {" --text b.txt --context 8 --stride 9",
            "--stride is 9, but at most the context of 8 leaves no token out."},
           {" --text b.txt --context -1", "--context is '-1', but a whole number from 1 to"},
           {" --text b.txt --context 999999", "--context is 999999, but the text has only"},
           {"", "give either --tokens FILE.npy or --text FILE."}}) {
    const Result result = weir(eval + arguments);
    EXPECT_EQ(result.status, 2) << arguments;
    EXPECT_THAT(result.err, AllOf(HasSubstr("error: [eval] "), HasSubstr(message))) << arguments;
  }
}

}  // namespace
