// What commands read: regular files, in whatever place of the command line they are named.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tools/command_test_util.h"

namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Result = weir::test::CommandResult;

class InputCommand : public weir::test::Command {
 protected:
  // `timeout` ends what waits for the other end of a pipe, with 124.
  Result limited(const std::string& arguments) const {
    return shell(fmt::format("timeout 60 {} {}", WEIR_COMMAND, arguments));
  }
  void make_pipe(const std::string& name) const {
    fs::remove(folder_ / name);
    ASSERT_EQ(mkfifo((folder_ / name).c_str(), 0600), 0);
  }
  void expect_refused(const std::string& arguments, const std::string& message) const {
    const Result result = limited(arguments);
    EXPECT_TRUE(result.status == 1 || result.status == 2) << arguments << ": " << result.status;
    EXPECT_THAT(result.err, HasSubstr(message)) << arguments;
  }
};

TEST_F(InputCommand, SpecialFilesAreRefusedAtOnce) {
  fs::copy(fmt::format("{}/models/llama", WEIR_TEST_DATA), folder_ / "model");
  write("a.txt", "some text");
  make_pipe("pipe");
  for (const char* file : {"pipe", "/dev/zero"}) {
    const std::string message = fmt::format(
        "{}: it is a device, pipe or socket, a regular file is needed. Write what it gives into a "
        "file first.",
        file);
    expect_refused(fmt::format("eval --model model --tokenizer bytes --text {}", file), message);
    expect_refused(fmt::format("eval --model model --tokens {}", file), message);
    expect_refused(fmt::format("measure --model model --tokens {}:uint8", file), message);
    expect_refused(fmt::format("tokens --tokenizer {} --text a.txt", file), message);
    expect_refused(fmt::format("tokens --tokenizer bytes --text {}", file), message);
    expect_refused(fmt::format("tokens --tokenizer bytes --decode {}", file), message);
    expect_refused(fmt::format("dump {}", file), message);
    expect_refused(fmt::format("run {}", file), message);
    expect_refused(fmt::format("train {}", file), message);
    expect_refused(
        fmt::format("train data.kind=text data.files={} data.tokenizer=bytes out=run", file),
        message);
    expect_refused(
        fmt::format("train data.kind=text data.files=a.txt data.tokenizer={} out=run", file),
        message);
    expect_refused(fmt::format("train data.bigrams={} out=run", file), message);
  }
}

TEST_F(InputCommand, SpecialFilesOfAModelAreRefusedAtOnce) {
  for (const char* name : {"config.json", "model.safetensors", "model.gguf"}) {
    fs::remove_all(folder_ / "model");
    if (std::string(name).ends_with("gguf"))
      fs::create_directory(folder_ / "model");
    else
      fs::copy(fmt::format("{}/models/llama", WEIR_TEST_DATA), folder_ / "model");
    make_pipe(fmt::format("model/{}", name));
    for (const char* command : {"probes --model model", "convert model folder",
                                "eval --model model --tokenizer bytes --text /dev/null"})
      expect_refused(command, "it is a device, pipe or socket");
  }
}

TEST_F(InputCommand, SpecialFilesOfARunAreRefusedAtOnce) {
  ASSERT_EQ(weir("train out=run steps=1 batch=1 length=32 model.layers=1 model.d_model=16 "
                 "model.d_head=8 model.heads=2 model.d_ff=24 optimizer.warmup=1 measure.steps=1 "
                 "optimizer.schedule=constant")
                .status,
            0);
  const std::string state = "run/run/checkpoints/step000001/state.json";
  for (const std::string& file :
       {std::string("run/config.json"), std::string("run/run.json"),
        std::string("run/manifest.jsonl"), std::string("run/run/config.json"),
        std::string("run/run/loss.jsonl"), std::string("run/run/metrics.jsonl"), state,
        std::string("run/run/checkpoints/step000001/optimizer.safetensors")}) {
    fs::rename(folder_ / file, folder_ / "kept");
    make_pipe(file);
    const Result resumed = limited("train resume=run steps=2");
    EXPECT_EQ(resumed.status, 1) << file << resumed.err;
    EXPECT_THAT(resumed.err, HasSubstr("it is a device, pipe or socket")) << file;
    EXPECT_NE(limited("report run").status, 124) << file;
    fs::remove(folder_ / file);
    fs::rename(folder_ / "kept", folder_ / file);
  }
  for (const char* file : {"profile.json", "validation.jsonl", "maps.json"}) {
    fs::remove(folder_ / "run/run" / file);
    make_pipe(fmt::format("run/run/{}", file));
    expect_refused("report run", "it is a device, pipe or socket");
    fs::remove(folder_ / "run/run" / file);
  }
}

// What a run has lost is found by the report, and computed again to the same bytes.
TEST_F(InputCommand, DamagedFilesOfARunAreNamedAndMadeAgain) {
  ASSERT_EQ(weir("train out=run steps=2 batch=1 length=32 model.layers=1 model.d_model=16 "
                 "model.d_head=8 model.heads=2 model.d_ff=24 optimizer.warmup=1 checkpoint_every=1 "
                 "'measure.probes=blocks.0.attn.hook_v : batch_sum'")
                .status,
            0);
  const auto check = [&](const std::string& file, const std::string& content, bool absent,
                         const std::string& message) {
    const std::string whole = text_of(folder_ / file);
    if (absent)
      fs::remove(folder_ / file);
    else
      write(file, content.empty() ? content : whole.substr(0, 60));
    const Result report = weir("report run");
    EXPECT_EQ(report.status, 1) << file;
    EXPECT_THAT(report.err, HasSubstr(message)) << file;
    const Result resumed = weir("train resume=run");
    EXPECT_EQ(resumed.status, 0) << file << resumed.err;
    EXPECT_TRUE(text_of(folder_ / file) == whole) << file;
    EXPECT_EQ(weir("report run").status, 0) << file;
  };
  for (int step = 0; step <= 2; ++step) {
    const std::string file = fmt::format("run/run/probes/step{:06}.npz", step);
    const std::string message =
        file + " is missing, empty or cut off. `weir train resume=run` computes it again.";
    check(file, "", true, message);
    check(file, "", false, message);
    check(file, "cut", false, message);
  }
  for (const char* content : {"", "cut"}) {
    check("run/run/maps.json", content, false,
          "run/run/maps.json is damaged. `weir train resume=run` computes it again.");
    check("run/run/config.json", content, false,
          "run/run/config.json is damaged, or of another version of Weir: [config] "
          "run/run/config.json is not valid JSON: ");
  }
}

// The word is shown, and does nothing to the terminal.
TEST_F(InputCommand, MessagesShowControlCharactersAsEscapes) {
  for (const char* command : {"measure --tokens x --model \"$(printf 'mo\\033[31mdel')\"",
                              "train \"$(printf 'out=mo\\033[31mdel/\\302\\233')\" model.heads=3",
                              "tokens --tokenizer bytes --text \"$(printf 'mo\\033[31mdel')\""}) {
    const Result result = weir(command);
    EXPECT_NE(result.status, 0) << command;
    EXPECT_THAT(result.err, testing::Not(HasSubstr("\x1b"))) << command;
    EXPECT_THAT(result.err, testing::Not(HasSubstr("\x9b"))) << command;
  }
  EXPECT_THAT(weir("eval --tokens x --model \"$(printf 'mo\\033[31mdel')\"").err,
              HasSubstr("mo\\x1b[31mdel"));
}

TEST_F(InputCommand, MessagesShowLineBreaksOfNamesAsEscapes) {
  const Result run = weir("run \"$(printf 'x\\n.weir')\"");
  EXPECT_EQ(run.status, 1);
  EXPECT_THAT(run.err, HasSubstr("x\\x0a.weir"));
  EXPECT_THAT(run.err, testing::Not(HasSubstr("x\n.weir")));
  // The message's own stay.
  const Result two = weir("eval --tokens a --model=\"$(printf 'b/x\\ny')\"");
  EXPECT_THAT(two.err, HasSubstr("2 problems:\n  - "));
  EXPECT_THAT(two.err, HasSubstr("there is no b/x\\x0ay."));
  write("a.txt", "some text");
  const Result made = weir("tokens --tokenizer bytes --text a.txt --out \"$(printf 'i\\nd.npy')\"");
  EXPECT_THAT(made.out, HasSubstr("i\\x0ad.npy: i32 "));
}

// A file as standard input has a name, and is a regular file all the same.
TEST_F(InputCommand, StandardInputMayBeNamed) {
  write("a.txt", "some text");
  const Result named =
      shell(fmt::format("{} tokens --tokenizer bytes --text /dev/stdin < a.txt", WEIR_COMMAND));
  EXPECT_EQ(named.status, 0) << named.err;
  EXPECT_EQ(named.out, weir("tokens --tokenizer bytes --text a.txt").out);
}

}  // namespace
