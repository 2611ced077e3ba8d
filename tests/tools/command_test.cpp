// The `weir` command as a user runs it: output, errors, exit status.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "lab/fill_weight.h"
#include "tools/command_test_util.h"

namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using weir::test::Command;
using Result = weir::test::CommandResult;

// Of a dotted key, in nested JSON.
nlohmann::json::json_pointer pointer_of(std::string key) {
  std::replace(key.begin(), key.end(), '.', '/');
  return nlohmann::json::json_pointer("/" + key);
}

// "kind name" to sum and bits, from the table of `weir run`.
struct Row {
  double sum = 0, absolute = 0;
  std::string bits;
};
std::map<std::string, Row> rows(const std::string& table) {
  std::map<std::string, Row> result;
  std::istringstream lines(table);
  std::string line, kind, name, type;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    Row row;
    words >> kind >> name >> type >> row.sum >> row.absolute >> row.bits;
    result[kind + " " + name] = row;
  }
  return result;
}

const std::string kSmall =
    "--layers 2 --set model.d_model=16 --set model.d_head=8 --set model.heads=2 "
    "--set model.kv_heads=1 --set model.d_ff=24 --set batch=2 --set length=8 ";

TEST_F(Command, HelpAndUsage) {
  EXPECT_EQ(weir("--help").status, 0);
  EXPECT_THAT(weir("--help").out, HasSubstr("demo"));
  for (const char* command :
       {"demo", "train", "report", "dump", "run", "probes", "info", "tune", "convert"}) {
    Result help = weir(std::string(command) + " --help");
    EXPECT_EQ(help.status, 0);
    EXPECT_THAT(help.out, HasSubstr("Examples:\n  "));
    EXPECT_THAT(help.out, HasSubstr(fmt::format("weir {}", command)));
  }
  for (const char* wrong : {"", "trian", "--bogus", "measure", "eval", "run", "convert a", "report",
                            "train --bogus", "measure -x", "demo --steps", "info --quick=1"}) {
    const Result result = weir(wrong);
    EXPECT_EQ(result.status, 2) << wrong;
    EXPECT_THAT(result.err, AllOf(StartsWith("error: "), HasSubstr("--help`.\n"))) << wrong;
    EXPECT_EQ(result.out, "") << wrong;
  }
  Result wrong = weir("trian");
  EXPECT_EQ(wrong.status, 2);
  EXPECT_THAT(wrong.err, StartsWith("error: 'trian' is no command."));
  wrong = weir("train --bogus");
  EXPECT_EQ(wrong.status, 2);
  EXPECT_THAT(wrong.err, HasSubstr("Try `weir train --help`."));
  EXPECT_EQ(weir("run").status, 2);
  EXPECT_THAT(weir("info --quick").out, HasSubstr("WEIR_TARGET"));
}

TEST_F(Command, EveryStageIsReadBackToTheSameBytes) {
  for (const char* stage :
       {"built", "differentiated", "instrumented", "lowered", "fused", "planned"})
    for (const char* kind : {"", "--train "}) {
      Result dump =
          weir(fmt::format("dump {}{}--v-scale learned --attention softmax-1 --stage {} "
                           "--probe 'blocks.*.attn.hook_v.grad : batch_sum' "
                           "--probe 'blocks.*.attn.hook_pattern : row_sum'",
                           kSmall, kind, stage));
      ASSERT_EQ(dump.status, 0) << dump.err;
      EXPECT_THAT(dump.out, HasSubstr(fmt::format("stage={}", stage)));
      EXPECT_THAT(dump.out, HasSubstr("normalizer=\"softmax-1\""));
      write("a.weir", dump.out);
      Result again = weir("dump a.weir");
      EXPECT_EQ(again.status, 0) << again.err;
      EXPECT_TRUE(again.out == dump.out) << stage;
    }
}

TEST_F(Command, AFileGoesOnFromItsStage) {
  Result built = weir("dump " + kSmall), planned = weir("dump --stage planned " + kSmall);
  write("a.weir", built.out);
  EXPECT_TRUE(weir("dump a.weir --stage planned").out == planned.out);
  write("b.weir", planned.out);
  Result back = weir("dump b.weir --stage built");
  EXPECT_EQ(back.status, 1);
  EXPECT_THAT(back.err, StartsWith("error: "));
  EXPECT_THAT(weir("dump a.weir --stage asm").out, HasSubstr(".text"));
  EXPECT_THAT(weir("dump a.weir --stage llvm").out, HasSubstr("define "));
  EXPECT_THAT(weir("dump --dot a.weir").out, StartsWith("digraph"));
  Result code = weir("dump --dot --stage asm " + kSmall);
  EXPECT_EQ(code.status, 2);
  EXPECT_THAT(code.err, HasSubstr("[dump] --dot draws a graph, but stage asm is code."));
}

TEST_F(Command, InterpreterAndCompiledCodeGiveTheSameChecksums) {
  for (const char* what : {"--stage built", "--stage lowered --train",
                           "--stage fused --train --probe 'blocks.*.hook_resid_mid : raw'"}) {
    Result dump = weir(fmt::format("dump {}{}", kSmall, what));
    ASSERT_EQ(dump.status, 0) << dump.err;
    write("a.weir", dump.out);
    Result one = weir("run a.weir --jit --threads 1"), two = weir("run a.weir --threads 2"),
           meaning = weir("run a.weir --interpreter"), other = weir("run a.weir --seed 2");
    ASSERT_EQ(one.status, 0) << one.err;
    ASSERT_EQ(meaning.status, 0) << meaning.err;
    EXPECT_TRUE(one.out == two.out) << what;
    EXPECT_FALSE(one.out == other.out) << what;
    auto compiled = rows(one.out), interpreted = rows(meaning.out);
    EXPECT_GE(compiled.size(), 1u);
    ASSERT_EQ(compiled.size(), interpreted.size());
    for (const auto& [name, row] : interpreted) {
      ASSERT_TRUE(std::isfinite(row.sum)) << name;
      EXPECT_NEAR(compiled.at(name).sum, row.sum, 1e-4 * row.absolute + 1e-12) << name;
      EXPECT_NEAR(compiled.at(name).absolute, row.absolute, 1e-4 * row.absolute + 1e-12) << name;
      EXPECT_EQ(compiled.at(name).bits.size(), 16u);
    }
  }
}

TEST_F(Command, WrongInputIsSaidInOneMessage) {
  Result probe = weir("dump " + kSmall + "--probe blocks.0.atn.hook_v");
  EXPECT_EQ(probe.status, 2);
  EXPECT_THAT(probe.err, StartsWith("error: [probe] 'blocks.0.atn.hook_v' matches no hook. Did you "
                                    "mean blocks.0.attn.hook_v"));
  EXPECT_THAT(weir("dump --stage fusd").err,
              StartsWith("error: [dump] --stage is 'fusd'. Use built, differentiated"));
  EXPECT_THAT(weir("probes 'blocks.7.*'").err, HasSubstr("no hook matches 'blocks.7.*'."));
  write("bad.weir", "graph g (x: f32[2]) stage=built\n  A = expp x\n  return A\n");
  EXPECT_THAT(weir("dump bad.weir").err, HasSubstr("bad.weir:2:"));
  EXPECT_THAT(weir("run absent.weir").err, HasSubstr("absent.weir"));
  Result keys = weir("train optimiser.rate=1 optimizer.rte=2 model.heads=3 model.kv_heads=2");
  EXPECT_EQ(keys.status, 2);
  EXPECT_THAT(keys.err, HasSubstr("unknown key 'optimizer.rte'. Did you mean optimizer.rate"));
  EXPECT_THAT(keys.err, HasSubstr("heads 3 is no multiple of kv_heads 2"));
  EXPECT_FALSE(fs::exists(folder_ / "runs"));
}

TEST_F(Command, UsageIsCheckedBeforeAnythingIsDone) {
  write("run.json", "{\"steps\": 3,\n \"batch\": 2, // comment\n}");
  write("big.weir", "graph m (x: f32[100000000000])\n  A = exp x\n  return y = A\n");
  write("a.weir", weir("dump " + kSmall).out);
  write("empty.txt", "");
  for (const auto& [arguments, status, message] :
       std::vector<std::tuple<std::string, int, std::string>>{
           {"train stpes=3 optimizer.lr=1 model.layers=100000 data.kind=text data.files=no.txt "
            "out=/nodir/x data.tokenizer=gpt3/",
            2, "[train] 5 problems:\n  - unknown key 'stpes'. Did you mean steps?"},
           {"train --steps 3", 2,
            "there is no option --steps. Keys are given as key=value: steps="},
           {"train run.json", 1,
            "run.json: line 2, column 14: JSON has no comments; remove this one."},
           {"train out=", 2, "out is '', but a text that is not empty is needed."},
           {"train \"out=$(printf 'lat\\351')\"", 2, "argument 2 is 'out=lat"},
           {"train data.bigrams=empty.txt steps=0", 1, "data.bigrams: empty.txt is empty."},
           {"train resume=a --overwrite", 1, "there is no run in a"},
           {"train model.layers=1024 model.d_model=131072 model.d_ff=1048576", 1,
            "parameters: weights and optimizer state alone take"},
           {"train model.layers=100000", 2,
            "model.layers is '100000', but a whole number from 1 to"},
           {"convert a b --shard -1", 2, "--shard is '-1', but a number from 1e-06 to 1000000 is"},
           {"dump a.weir --model llama-1b --set batch=3 --layers 7", 2,
            "[dump] 3 problems:\n  - --model chooses a model, but a.weir is a program as it is."},
           {"dump a.weir --v-scale full", 2, "Give --stage, too."},
           {"dump --program micro", 2, "Give --train, too."},
           {"dump --train --program micro", 2, "the step is one program. Give --set micro_batch"},
           {"dump --layers 2 --set model.layers=3", 2, "model.layers is given as 2 and as 3; give"},
           {"train steps=3 steps=4", 2, "[train] steps is given as 3 and as 4; give it once."},
           {"train resume=a resume=b", 2, "[train] resume is given twice; give it once."},
           {"run a.weir --interpreter --memory 10MiB", 2, "--memory and --interpreter exclude"},
           {"run big.weir", 1,
            "big.weir needs at least 2.2 TiB in all for inputs, outputs and largest"},
           {"probes --model nowhere", 2,
            "--model is 'nowhere', but a named model, a checkpoint's"}}) {
    const Result result = weir(arguments);
    EXPECT_EQ(result.status, status) << arguments << "\n" << result.err;
    EXPECT_THAT(result.err, AllOf(StartsWith("error: ["), HasSubstr(message))) << arguments;
  }
  const Result variable = shell("WEIR_THREADS=-1 WEIR_FOO=1 " WEIR_COMMAND " info --quick");
  EXPECT_EQ(variable.status, 2);
  EXPECT_THAT(variable.err, HasSubstr("WEIR_THREADS is '-1', but a whole number from 1 to 4096"));
  EXPECT_THAT(shell("WEIR_TARGT=host " WEIR_COMMAND " info --quick").err,
              StartsWith("warning: WEIR_TARGT is no variable of Weir, and does nothing. Did you "
                         "mean WEIR_TARGET?"));
  EXPECT_FALSE(fs::exists(folder_ / "runs"));
}

// They would wait for each other, each with memory of its own.
TEST_F(Command, MoreThreadsThanCoresAreSaidToBeUselessAndLeftOut) {
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const std::string useless = fmt::format(
      " are more than the {} core{} of this process; {} {} used. Results are the same "
      "bits for any number.\n",
      cores, cores == 1 ? "" : "s", cores, cores == 1 ? "is" : "are");
  write("a.weir", weir("dump " + kSmall).out);
  const Result one = weir("run a.weir --threads 1"), many = weir("run a.weir --threads 4096");
  const Result all = shell("WEIR_THREADS=4095 " WEIR_COMMAND " run a.weir");
  ASSERT_EQ(many.status, 0) << many.err;
  EXPECT_EQ(one.out, many.out);
  EXPECT_EQ(one.out, all.out);
  EXPECT_THAT(many.err, StartsWith("warning: 4096 threads" + useless));
  EXPECT_THAT(all.err, StartsWith("warning: 4095 threads (WEIR_THREADS)" + useless));
  EXPECT_THAT(weir(fmt::format("run a.weir --threads {}", cores)).err, Not(HasSubstr("threads")));
  const std::string train =
      "train steps=2 batch=2 length=8 model.d_model=16 model.d_head=8 model.heads=2 model.d_ff=24 "
      "data.symbols=9 optimizer.warmup=1 measure.metrics=false ";
  const Result few = weir(train + "out=one threads=1"),
               more = weir(train + "out=many threads=4096 'arms=a; b: threads=3000'");
  ASSERT_EQ(more.status, 0) << more.err;
  EXPECT_THAT(more.err, AllOf(HasSubstr("warning: 4096 threads" + useless),
                              HasSubstr("warning: 3000 threads" + useless)));
  for (const char* arm : {"many/a", "many/b"})
    EXPECT_TRUE(text_of(folder_ / arm / "checkpoints/step000002/model.safetensors") ==
                text_of(folder_ / "one/run/checkpoints/step000002/model.safetensors"));
}

TEST_F(Command, LongWorkIsShownOnATerminal) {
  write("a.weir", weir("dump " + kSmall).out);
  const Result result =
      shell("script -qec '" WEIR_COMMAND
            " train out=run steps=2 batch=2 length=8 model.d_model=16 model.heads=2 model.d_ff=24' "
            "/dev/null");
  EXPECT_THAT(result.out, HasSubstr("run: planning and compiling ..."));
  EXPECT_THAT(result.out, HasSubstr("/2  loss "));
}

TEST_F(Command, ANamedModelSetsSizesAndResumes) {
  const std::string tiny =
      "model.layers=1 model.d_model=16 model.heads=2 model.kv_heads=0 "
      "model.d_head=0 model.d_ff=24 steps=2 batch=1 length=8 ";
  const Result run = weir("train out=run " + tiny + "model=llama-0.1b model.vocabulary=70");
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(text_of(folder_ / "run/config.json"), HasSubstr("\"vocabulary\": 70"));
  EXPECT_THAT(text_of(folder_ / "run/config.json"), HasSubstr("\"name\": \"llama-0.1b\""));
  EXPECT_EQ(weir("train resume=run").status, 0);
  EXPECT_THAT(weir("train --help").out,
              HasSubstr("  llama-0.3b   layers 16, d_model 1024, heads 8, "
                        "kv_heads 4, d_head 128, d_ff 2816"));
}

TEST_F(Command, ProbesListsHooks) {
  Result all = weir("probes --v-scale learned " + kSmall);
  EXPECT_THAT(all.out, HasSubstr("blocks.1.attn.hook_v_scaled"));
  EXPECT_THAT(all.out, HasSubstr("batch, head, query, key"));
  EXPECT_THAT(all.out, HasSubstr("model.norm.weight"));
}

TEST_F(Command, TrainWritesAReportAndResumes) {
  const std::string run =
      "train out=run steps=4 batch=2 length=8 model.d_model=16 model.d_head=8 model.heads=2 "
      "model.d_ff=24 data.symbols=9 optimizer.warmup=1 measure.steps=0,4 ";
  Result first = weir(run);
  EXPECT_EQ(first.status, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr("sink score"));
  EXPECT_THAT(first.out, HasSubstr("run/report.html"));
  EXPECT_THAT(text_of(folder_ / "run/run.json"), HasSubstr("weir train out=run"));
  Result again = weir(run);
  EXPECT_EQ(again.status, 1);
  EXPECT_THAT(again.err, HasSubstr("Continue it with --resume, replace it with --overwrite"));
  const std::string report = text_of(folder_ / "run/report.html");
  fs::remove(folder_ / "run/report.html");
  Result rewritten = weir("report run");
  EXPECT_EQ(rewritten.status, 0) << rewritten.err;
  EXPECT_THAT(rewritten.out, HasSubstr("run/report.html"));
  EXPECT_TRUE(text_of(folder_ / "run/report.html") == report);
  EXPECT_EQ(weir("report run --out other.html").status, 0);
  EXPECT_TRUE(text_of(folder_ / "other.html") == report);
  EXPECT_EQ(weir("report nowhere").status, 1);
  EXPECT_EQ(weir("train resume=run").status, 0);
  EXPECT_EQ(weir(run + "--overwrite").status, 0);
  EXPECT_THAT(weir("train resume=nowhere").err, HasSubstr("there is no run in nowhere"));
}

TEST_F(Command, DemoReportsBothArmsOfBothExperiments) {
  const Result demo = weir("demo --steps 2 --out shown");
  EXPECT_EQ(demo.status, 0) << demo.err;
  EXPECT_THAT(demo.out, HasSubstr("baseline"));
  EXPECT_THAT(demo.out, HasSubstr("v-scale-full"));
  EXPECT_THAT(demo.out, HasSubstr("shown/report.html"));
  EXPECT_THAT(demo.out, HasSubstr("shown-norm/report.html"));
  EXPECT_TRUE(fs::exists(folder_ / "shown-norm/v-scale-full/complete"));
  // What RESULTS.md has of the second experiment is the same experiment.
  const auto made = nlohmann::json::parse(text_of(folder_ / "shown-norm/config.json"));
  const auto sweep = nlohmann::json::parse(
      text_of(fs::path(WEIR_TEST_DATA) / "../../examples/experiments/argument.json"));
  for (const auto& [key, value] : sweep["base"].items()) {
    if (key.ends_with("steps")) continue;
    EXPECT_EQ(made.at(pointer_of(key)), value) << key;
  }
  write("shown/notes.txt", "notes");
  const Result again = weir("demo --steps 1 --out shown --only sink");
  EXPECT_EQ(again.status, 0) << "an older demo is replaced";
  EXPECT_THAT(again.err, HasSubstr("Weir did not write these files, they stay: notes.txt"));
  EXPECT_EQ(text_of(folder_ / "shown/notes.txt"), "notes");
}

TEST_F(Command, DemoReplacesARunOnlyWhenTold) {
  const std::string keys =
      "train out=run steps=2 batch=2 length=8 model.d_model=16 model.d_head=8 model.heads=2 "
      "model.d_ff=24 data.symbols=9 optimizer.warmup=1 measure.steps=0,2";
  ASSERT_EQ(weir(keys).status, 0);
  write("run/thesis.txt", "thesis");
  const Result refused = weir("demo --steps 1 --out run");
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, HasSubstr("there is a run in run that is no demo. Choose another folder "
                                     "with --out, or replace it with --overwrite."));
  EXPECT_TRUE(fs::exists(folder_ / "run/run/complete"));
  fs::create_directory(folder_ / "other");
  write("other/letter.txt", "letter");
  EXPECT_THAT(weir("demo --steps 1 --out other --overwrite").err,
              HasSubstr("other exists and is no run."));
  EXPECT_EQ(weir("demo --steps 1 --out run --overwrite").status, 0);
  EXPECT_FALSE(fs::exists(folder_ / "run/run"));
  EXPECT_EQ(text_of(folder_ / "run/thesis.txt"), "thesis");
  EXPECT_EQ(text_of(folder_ / "other/letter.txt"), "letter");
  fs::create_directory(folder_ / "late-norm");
  write("late-norm/letter.txt", "letter");
  EXPECT_THAT(weir("demo --steps 1 --out late").err, HasSubstr("late-norm exists and is no run."));
  EXPECT_FALSE(fs::exists(folder_ / "late")) << "refused before the first run";
}

TEST_F(Command, ADamagedRunIsReportedWithItsRepair) {
  const std::string keys =
      "train out=run steps=4 batch=2 length=8 model.d_model=16 model.d_head=8 model.heads=2 "
      "model.d_ff=24 data.symbols=9 optimizer.warmup=1 checkpoint_every=1 measure.steps=0,2,4";
  ASSERT_EQ(weir(keys).status, 0);
  const std::string losses = text_of(folder_ / "run/run/loss.jsonl");
  const std::string records = text_of(folder_ / "run/run/metrics.jsonl");
  write("run/run/loss.jsonl", losses + losses.substr(0, losses.find('\n') + 1));
  EXPECT_THAT(weir("report run").err,
              HasSubstr("run/run/loss.jsonl has lines that are damaged, there twice or of steps "
                        "that the run has not. `weir train resume=run` puts it in order."));
  EXPECT_EQ(weir("train resume=run").status, 0);
  write("run/run/loss.jsonl", losses.substr(losses.find('\n') + 1));
  EXPECT_THAT(weir("report run").err,
              HasSubstr("run/run/loss.jsonl lacks the line of step 0. `weir train resume=run`"));
  EXPECT_THAT(weir("train resume=run").err,
              HasSubstr("warning: run: run/run/loss.jsonl lacks the line of step 0, though there "
                        "is a checkpoint of step 4. The steps are computed again from the start"));
  const size_t first = records.find('\n') + 1, second = records.find('\n', first) + 1;
  write("run/run/metrics.jsonl", records.substr(0, first) + records.substr(second));
  EXPECT_THAT(weir("report run").err,
              HasSubstr("error: [report] run/run/metrics.jsonl lacks the line of step 2. `weir "
                        "train resume=run` computes again what is missing.\n"));
  EXPECT_THAT(weir("train resume=run").err, HasSubstr("from run/run/checkpoints/step000002"));
  EXPECT_EQ(text_of(folder_ / "run/run/metrics.jsonl"), records);
  EXPECT_EQ(weir("report run").status, 0);
}

TEST_F(Command, TrainingOnTakesModelsOfTheTrainersKindAndNamesOthers) {
  write("text.txt", "It is a truth universally acknowledged.");
  const auto error = [&](const std::string& model) {
    const Result result =
        weir(fmt::format("train out=run init={}/models/{} data.kind=text data.files=text.txt",
                         WEIR_TEST_DATA, model));
    EXPECT_EQ(result.status, 1) << model;
    EXPECT_FALSE(fs::exists(folder_ / "run")) << model;
    return result.err;
  };
  for (const char* type : {"gpt2", "qwen2", "qwen3", "mistral"})
    EXPECT_THAT(error(type),
                AllOf(HasSubstr(fmt::format("models/{} is a model of type {}, which `weir train` "
                                            "cannot train: it trains models of type llama alone",
                                            type, type)),
                      Not(HasSubstr("problems"))));
  EXPECT_THAT(error("llama_bias"),
              AllOf(HasSubstr("[init] 3 problems"), HasSubstr("attention_bias is true, but models "
                                                              "of the trainer have absent.")));
}

TEST_F(Command, ALossThatIsNotFiniteIsAFailureThatSaysWhere) {
  write("text.txt", "It is a truth universally acknowledged.");
  const std::string keys =
      "steps=2 batch=2 length=8 data.kind=text data.files=text.txt optimizer.warmup=1 ";
  ASSERT_EQ(
      weir("train out=run model.d_model=16 model.d_head=8 model.heads=2 model.d_ff=24 " + keys)
          .status,
      0);
  const std::string checkpoint = "run/run/checkpoints/step000002";
  weir::test::fill_weight(folder_ / checkpoint, "model.layers.0.self_attn.v_proj.weight", 3e38f);
  const Result stopped = weir("train out=huge init=" + checkpoint + " " + keys);
  EXPECT_EQ(stopped.status, 1);
  EXPECT_THAT(stopped.err, HasSubstr("error: [train] run: the loss of step 0 is nan; first not "
                                     "finite is "));
  EXPECT_THAT(stopped.err, HasSubstr("(layer 0, sequence 0, token "));
  const std::string model = "--model huge/run/checkpoints/step000000 --text text.txt ";
  const Result measured = weir("measure " + model + "--batch 2 --length 8 --json m.json");
  EXPECT_EQ(measured.status, 1);
  EXPECT_THAT(measured.err, HasSubstr("error: [measure] the loss is NaN; first not finite is "
                                      "attn_out of layer 0: its norm is "));
  EXPECT_THAT(text_of(folder_ / "m.json"), HasSubstr("\"loss\":\"NaN\""));
  EXPECT_TRUE(fs::exists(folder_ / "m.html"));
  const Result evaluated = weir("eval " + model + "--context 8 --json e.json");
  EXPECT_EQ(evaluated.status, 1);
  EXPECT_THAT(evaluated.err, HasSubstr("error: [eval] the loss is nan; first not finite is that of "
                                       "window "));
  EXPECT_THAT(text_of(folder_ / "e.json"), HasSubstr("\"loss\":\"NaN\""));
}

TEST_F(Command, OfTwoProcessesOneHasTheRun) {
  const std::string keys =
      "steps=400 batch=16 length=32 model.d_model=32 model.d_head=16 model.heads=2 "
      "model.d_ff=48 data.symbols=9 checkpoint_every=40 measure.steps=0,200,400 ";
  EXPECT_EQ(weir_until("two/run/checkpoints/step000040", "KILL", "train out=two " + keys).status,
            128 + 9);
  const Result both = shell(fmt::format(
      "({0} train resume=two > a 2>&1 & pid=$!; {0} train resume=two > b 2>&1; echo $? > two-b; "
      "wait $pid; echo $? > two-a)",
      WEIR_COMMAND));
  EXPECT_EQ(both.status, 0);
  const bool first = text_of(folder_ / "two-a") == "0\n";
  EXPECT_EQ(text_of(folder_ / (first ? "two-b" : "two-a")), "1\n");
  EXPECT_THAT(text_of(folder_ / (first ? "b" : "a")),
              HasSubstr("error: [train] two is in use by "));
  EXPECT_EQ(weir("report two").status, 0);
  EXPECT_FALSE(fs::exists(folder_ / "two/lock"));
}

TEST_F(Command, OutputThatIsLostIsAFailure) {
  write("a.txt", "text\n");
  const std::string small =
      "--layers 1 --set model.d_model=16 --set model.d_head=8 "
      "--set model.heads=2 --set model.d_ff=24 --set batch=2 --set length=8";
  write("a.weir", weir("dump " + small).out);
  const std::string train =
      "steps=1 batch=2 length=8 model.d_model=16 model.d_head=8 model.heads=2 model.d_ff=24 "
      "data.kind=text data.files=long.txt ";
  write("long.txt", std::string(200, 'a'));
  ASSERT_EQ(weir("train out=run " + train).status, 0);
  const std::string model = "--model run/run/checkpoints/step000001";
  for (const std::string& command :
       {std::string("--help"), std::string("info --quick"), std::string("probes"), "dump " + small,
        std::string("run a.weir"), std::string("report run"),
        std::string("tokens --tokenizer bytes --text a.txt"), "train out=full " + train,
        std::string("demo --steps 1 --out shown"),
        std::string("convert run/run/checkpoints/step000001 hf"),
        fmt::format("eval {} --text long.txt --context 8", model),
        fmt::format("measure {} --text long.txt --length 8 --batch 2", model)}) {
    fs::remove_all(folder_ / "full");
    fs::remove_all(folder_ / "shown");
    fs::remove_all(folder_ / "hf");
    const std::string name = command[0] == '-' ? command : command.substr(0, command.find(' '));
    const Result full = shell(fmt::format("({} {} > /dev/full)", WEIR_COMMAND, command));
    EXPECT_EQ(full.status, 1) << command;
    EXPECT_THAT(full.err, HasSubstr(fmt::format("error: [output] what `weir {}` prints could not "
                                                "all be written to standard output",
                                                name)));
    fs::remove_all(folder_ / "full");
    fs::remove_all(folder_ / "shown");
    fs::remove_all(folder_ / "hf");
    const Result closed = shell(fmt::format("({} {} >&-)", WEIR_COMMAND, command));
    EXPECT_EQ(closed.status, 1) << command;
    EXPECT_THAT(closed.err, HasSubstr("Bad file descriptor")) << command;
  }
  const Result pipe = shell(
      fmt::format("({{ sleep 0.3; {} dump --train; echo $? > status; }} | true)", WEIR_COMMAND));
  EXPECT_EQ(text_of(folder_ / "status"), "1\n");
  EXPECT_THAT(pipe.err, HasSubstr("Broken pipe"));
  // Standard error may be closed, too; a file never takes its place.
  EXPECT_EQ(shell(fmt::format("({} report run --out r.html 2>&- >&-)", WEIR_COMMAND)).status, 1);
  EXPECT_THAT(text_of(folder_ / "r.html"), StartsWith("<!"));
  EXPECT_EQ(weir("probes").status, 0);
}

TEST_F(Command, AFileThatCannotBeWrittenWholeIsNotWritten) {
  // The limit of a file's size is what a full disk is, without a disk.
  const std::string train =
      "batch=2 length=16 model.d_model=64 model.d_head=32 model.heads=2 model.d_ff=128 "
      "data.kind=text data.files=long.txt optimizer.warmup=1 measure.steps=0,4 steps=4 ";
  write("long.txt", std::string(900, 'a'));
  ASSERT_EQ(weir("train out=run " + train).status, 0);
  fs::remove(folder_ / "run/report.html");
  const auto limited = [&](int kilobytes, const std::string& command) {
    return shell(
        fmt::format("(ulimit -f {}; WEIR_CACHE=off {} {})", kilobytes, WEIR_COMMAND, command));
  };
  const Result report = limited(40, "report run");
  EXPECT_EQ(report.status, 1);
  EXPECT_EQ(report.err, "error: [file] cannot write run/report.html: File too large.\n");
  const Result cut = limited(40, "train out=cut " + train);
  EXPECT_EQ(cut.status, 1);
  EXPECT_THAT(cut.err, HasSubstr("model.safetensors: File too large."));
  EXPECT_TRUE(fs::is_empty(folder_ / "cut/run/checkpoints"));
  EXPECT_EQ(weir("train resume=cut").status, 0);
  EXPECT_EQ(text_of(folder_ / "cut/run/metrics.jsonl"), text_of(folder_ / "run/run/metrics.jsonl"));
  const Result record =
      limited(1,
              "measure --model run/run/checkpoints/step000004 --text long.txt --length 16 "
              "--batch 2 --no-report --json out.json");
  EXPECT_EQ(record.status, 1);
  EXPECT_THAT(record.err, HasSubstr("error: [file] cannot write out.json: File too large.\n"));
  const Result converted = limited(40, "convert run/run/checkpoints/step000004 hf");
  EXPECT_EQ(converted.status, 1);
  EXPECT_THAT(converted.err, HasSubstr("model.safetensors: File too large."));
  EXPECT_FALSE(fs::exists(folder_ / "hf"));
  for (const auto& entry : fs::recursive_directory_iterator(folder_))
    EXPECT_EQ(entry.path().string().find(".tmp."), std::string::npos) << entry.path();
}

TEST_F(Command, ACacheThatCannotBeWrittenIsAWarning) {
  write("text.txt", std::string(300, 'a') + std::string(300, 'b'));
  const std::string train =
      " data.kind=text data.files=text.txt batch=2 length=8 model.d_model=16 model.d_head=8 "
      "model.heads=2 model.d_ff=24 measure.steps=0 steps=1 ";
  const auto with = [&](const std::string& variables, const std::string& out) {
    return shell(fmt::format("(unset WEIR_CACHE XDG_CACHE_HOME HOME; {} {} train out={}{})",
                             variables, WEIR_COMMAND, out, train));
  };
  write("file", "");
  Result result = with("WEIR_CACHE=file/cache", "a");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("warning: object cache file/cache/objects is not used: cannot "
                                    "make file/cache: Not a directory. The folder is named by "
                                    "WEIR_CACHE: name another one, or say WEIR_CACHE=off.\n"));
  EXPECT_THAT(result.err, HasSubstr("warning: the tokenised text is not kept: [tokens] cannot make "
                                    "the cache folder file/cache/tokens: Not a directory."));
  result = with("XDG_CACHE_HOME=$PWD/file", "b");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("The folder follows from XDG_CACHE_HOME: name another one by"));
  result = with("HOME=$PWD/nobody", "c");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("nobody, which is no folder. Name one by WEIR_CACHE"));
  EXPECT_FALSE(fs::exists(folder_ / "nobody"));
  result = with("XDG_CACHE_HOME=$PWD/shared HOME=$PWD/nobody", "d");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err.find("warning"), std::string::npos) << result.err;
  EXPECT_TRUE(fs::is_directory(folder_ / "shared/weir/objects"));
  EXPECT_TRUE(fs::is_directory(folder_ / "shared/weir/tokens"));
  // A full disk: files there have no room for a single object.
  result = shell(
      fmt::format("(ulimit -f 8; WEIR_CACHE=$PWD/full {} train out=e {})", WEIR_COMMAND, train));
  EXPECT_THAT(result.err, HasSubstr("warning: object cache: cannot write to"));
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / "full"))
    EXPECT_TRUE(entry.is_directory() || entry.path().extension() == ".o" ||
                entry.path().extension() == ".bin")
        << entry.path();
}

TEST_F(Command, TuneKeepsWhatItFindsUntilItIsForgotten) {
  setenv("WEIR_CACHE", (folder_ / "cache").c_str(), 1);
  const Result tuned = weir(
      "tune --rounds 1 --threads 1 batch=2 length=8 model.layers=1 model.d_model=16 "
      "model.d_head=8 model.heads=2 model.d_ff=24 data.symbols=9");
  EXPECT_EQ(tuned.status, 0) << tuned.err;
  EXPECT_THAT(tuned.out, HasSubstr(" products of a step of "));
  EXPECT_THAT(tuned.out, HasSubstr("`weir tune --forget` removes it."));
  EXPECT_THAT(weir("tune --forget").out, StartsWith("Removed "));
  EXPECT_THAT(weir("tune --forget").out, StartsWith("There was no "));
  setenv("WEIR_CACHE", "off", 1);
  EXPECT_THAT(weir("tune --forget").err, HasSubstr("WEIR_CACHE is off"));
}

TEST_F(Command, InfoCompilesWhatItIsAskedFor) {
  const Result info = weir("info --quick --timing --model demo");
  EXPECT_EQ(info.status, 0) << info.err;
  EXPECT_THAT(info.out, HasSubstr("\n  demo  "));
  EXPECT_THAT(info.out, HasSubstr("distinct)"));
}

TEST_F(Command, KilledAtAnyMomentAndResumedIsUninterrupted) {
  const std::string keys =
      "steps=600 batch=16 length=32 model.d_model=32 model.d_head=16 model.heads=2 "
      "model.d_ff=48 data.symbols=9 checkpoint_every=40 measure.steps=0,1,50,100,400,599,600 ";
  ASSERT_EQ(weir("train out=whole " + keys).status, 0);
  EXPECT_EQ(weir_until("cut/run/checkpoints/step000040", "KILL", "train out=cut " + keys).status,
            128 + 9);
  Result interrupted =
      weir_until("cut/run/checkpoints/step000120", "INT", "train resume=cut threads=1");
  EXPECT_EQ(interrupted.status, 128 + 2);
  EXPECT_THAT(interrupted.out, HasSubstr("weir train resume=cut"));
  EXPECT_EQ(weir("train --resume out=cut " + keys).status, 0);
  for (const char* file : {"metrics.jsonl", "maps.json", "checkpoints/step000600/model.safetensors",
                           "checkpoints/step000600/optimizer.safetensors"}) {
    EXPECT_TRUE(text_of(folder_ / "whole/run" / file) == text_of(folder_ / "cut/run" / file))
        << file;
    EXPECT_GT(text_of(folder_ / "whole/run" / file).size(), 500u) << file;
  }
}

TEST_F(Command, TokensThereAndBack) {
  const std::string gpt2 = std::string(WEIR_TEST_DATA) + "/tokenizer/gpt2.json";
  const std::string text = "It's the flow of the stream, 12 \xE5\xA0\xB0.\n";
  write("a.txt", text);
  const Result there = weir("tokens --tokenizer " + gpt2 + " --text a.txt --out ids.npy");
  ASSERT_EQ(there.status, 0) << there.err;
  EXPECT_THAT(there.out, StartsWith("ids.npy: i32 ["));
  EXPECT_THAT(there.out, HasSubstr("in 1 document; BPE, 859 entries, 600 merges"));
  EXPECT_EQ(there.err, "");
  EXPECT_EQ(weir("tokens --tokenizer " + gpt2 + " --decode ids.npy").out, text);
  ASSERT_EQ(weir("tokens --tokenizer " + gpt2 + " --decode ids.npy --out b.txt").status, 0);
  EXPECT_EQ(text_of(folder_ / "b.txt"), text);
  // Without --out the ids are printed; the same through standard input.
  const Result printed = weir("tokens --tokenizer bytes --text a.txt --length 4 --batch 2");
  EXPECT_EQ(printed.out, "73 116 39 115\n32 116 104 101\n");
  EXPECT_EQ(shell("printf 'ab' | " WEIR_COMMAND " tokens --tokenizer bytes").out, "97 98\n");
}

TEST_F(Command, TokensOfSeveralDocuments) {
  write("a.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"c\"}\n");
  const std::string tokens = "tokens --tokenizer bytes --text a.jsonl ";
  EXPECT_EQ(weir(tokens).out, "97 98 0 99\n");
  EXPECT_EQ(weir(tokens + "--separator none").out, "97 98 99\n");
  EXPECT_EQ(weir(tokens + "--separator '|'").out, "97 98 124 99\n");
  EXPECT_EQ(weir(tokens + "--separator 255").out, "97 98 255 99\n");
  EXPECT_THAT(weir(tokens + "--separator 256").err,
              HasSubstr("--separator is '256'; none, auto, a token or an id below 256 is needed"));
  EXPECT_THAT(weir(tokens + "--length 3 --batch 2").err,
              HasSubstr("the text has 4 tokens, but 2 rows of 3 need 6. Give more text, or a"));
  EXPECT_THAT(weir(tokens + "--batch 2").err, HasSubstr("--batch 2 needs --length too."));
  EXPECT_EQ(weir(tokens + "--decode ids.npy").status, 2);
}

TEST_F(Command, TokensSayWhatDoesNotComeBack) {
  write("a.txt", "a\xFF");
  const std::string gpt2 = std::string(WEIR_TEST_DATA) + "/tokenizer/gpt2.json";
  EXPECT_EQ(
      weir("tokens --tokenizer " + gpt2 + " --text a.txt --out ids.npy").err,
      "note: 1 of 1 documents do not decode to the same bytes; they are not UTF-8, not in the "
      "tokenizer's normal form, or hold bytes that it has no token for.\n");
}

}  // namespace
