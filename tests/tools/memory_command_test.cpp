// What every command states that it needs, against the most memory that its process ever had.
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <regex>

#include "engine/memory.h"
#include "support/text.h"
#include "tools/command_test_util.h"

namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Peak {
  int status = -1;
  double stated = 0, used = 0;  ///< bytes
  std::string out;
};

class MemoryCommand : public weir::test::Command {
 protected:
  // Runs the command; its largest resident size comes from the system. That of a new process starts
  // with the size of this one, which is smaller than any command's.
  Peak measured(const std::string& arguments) const {
    const std::string line =
        fmt::format("cd {} && exec {} {} > out 2> err", folder_.string(), WEIR_COMMAND, arguments);
    const pid_t child = fork();
    if (child == 0) {
      execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      _exit(127);
    }
    Peak peak;
    int status = 0;
    rusage usage{};
    wait4(child, &status, 0, &usage);
    peak.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    peak.used = static_cast<double>(usage.ru_maxrss) * 1024;
    peak.out = text_of(folder_ / "out") + text_of(folder_ / "err");
    const std::regex stated("eak memory ([0-9.]+) ([KMG]iB)");
    for (std::sregex_iterator it(peak.out.begin(), peak.out.end(), stated), end; it != end; ++it) {
      const double unit = (*it)[2] == "KiB" ? 0x1p10 : (*it)[2] == "MiB" ? 0x1p20 : 0x1p30;
      // As it is printed, rounded to a tenth.
      peak.stated = std::max(peak.stated, (std::stod((*it)[1]) + 0.05) * unit);
    }
    return peak;
  }
  void expect_kept(const std::string& arguments) const {
    const Peak peak = measured(arguments);
    ASSERT_EQ(peak.status, 0) << arguments << "\n" << peak.out;
    ASSERT_GT(peak.stated, 0) << peak.out;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    EXPECT_LE(peak.used, peak.stated)
        << arguments << "\nused " << weir::human_bytes(peak.used) << "\n"
        << peak.out;
#endif
  }

  // A checkpoint of a model with few features, whose texts are bytes.
  void make_model(const std::string& name, const std::string& words) const {
    std::string text;
    for (int i = 0; i < 70000; ++i) text += static_cast<char>('a' + (i * i / 7 + i) % 23);
    write("text.txt", text);
    write("small.json", R"({"model": {"d_model": 16, "heads": 2, "d_ff": 16}})");
    const Peak made = measured(fmt::format(
        "train small.json out={} data.kind=text data.files=text.txt batch=1 length=16 steps=1 "
        "threads=1 measure.metrics=false {}",
        name, words));
    ASSERT_EQ(made.status, 0) << made.out;
  }
  static std::string model(const std::string& name) { return name + "/run/checkpoints/step000001"; }
};

TEST_F(MemoryCommand, MeasureKeepsItsWordForLongSequences) {
  make_model("one", "model.layers=1");
  for (int64_t length : {512, 8192, 32768})
    expect_kept(
        fmt::format("measure --model {} --text text.txt --batch 1 --length {} --threads 2 "
                    "--json out.json --map 0.0 --map 0.1",
                    model("one"), length));
  expect_kept(
      fmt::format("measure --model {} --text text.txt --batch 4 --length 4096 --memory "
                  "400MiB --json out.json",
                  model("one")));
}

TEST_F(MemoryCommand, MeasureAndEvalKeepTheirWordForManyLayersAndALongVocabulary) {
  make_model("deep", "model.layers=40");
  make_model("wide", "model.layers=1 model.vocabulary=60000 model.d_model=64");
  for (const char* name : {"deep", "wide"}) {
    expect_kept(fmt::format(
        "measure --model {} --text text.txt --batch 2 --length 1024 --json out.json", model(name)));
    expect_kept(fmt::format("eval --model {} --text text.txt --context 512", model(name)));
  }
}

TEST_F(MemoryCommand, TrainingKeepsItsWord) {
  make_model("text", "model.layers=1");
  const std::string words =
      "data.kind=text data.files=text.txt model.d_model=16 model.heads=2 model.d_ff=16 steps=2 "
      "measure.every=1 threads=2 ";
  expect_kept("train out=long model.layers=1 batch=1 length=8192 " + words);
  EXPECT_LT(fs::file_size(folder_ / "long/run/maps.json"), 2'000'000u);
  expect_kept("train out=deep model.layers=30 batch=4 micro_batches=2 length=256 " + words);
  expect_kept("train out=wide model.layers=1 model.vocabulary=60000 batch=2 length=64 " + words);
  expect_kept("demo --out demo --steps 2 --only sink");
  expect_kept("demo --out demo --steps 2 --only norm");
}

TEST_F(MemoryCommand, AProgramAsTextKeepsItsWord) {
  for (const char* what : {"--layers 1 --set batch=1", "--layers 2 --set batch=8 --set length=512",
                           "--layers 2 --set batch=64 --set length=256 --train --stage planned"}) {
    write("a.weir", weir(fmt::format("dump {}", what)).out);
    expect_kept("run a.weir --threads 2");
    if (what == std::string("--layers 1 --set batch=1")) {
      EXPECT_THAT(measured("run a.weir --interpreter").out, HasSubstr("Memory at least "));
    }
  }
  const Peak whole = measured("run a.weir --threads 2");
  EXPECT_GT(whole.stated, 0x1p27) << whole.out << " a program that is larger than its process";
  const auto with = [&](double bytes) {
    return measured(fmt::format("run a.weir --threads 2 --memory {:.0f}", bytes));
  };
  const Peak less = with(0.9 * whole.stated), least = with(0x1p23),
             enough = with(1.1 * whole.stated);
  EXPECT_EQ(less.status, 1);
  EXPECT_THAT(less.out, AllOf(HasSubstr("[memory] a.weir needs "), HasSubstr(" may be used "),
                              HasSubstr("Allow more (--memory "), Not(HasSubstr("output"))));
  EXPECT_EQ(least.status, 1);
  EXPECT_THAT(least.out, HasSubstr("a.weir needs at least "));
  EXPECT_EQ(enough.status, 0) << enough.out;
}

// What a refusal says is needed is what a run states: with that much it runs.
TEST_F(MemoryCommand, ARefusalNamesWhatIsEnough) {
  make_model("one", "model.layers=1");
  const std::string arguments = fmt::format(
      "measure --model {} --text text.txt --batch 1 --length 64 --memory ", model("one"));
  measured(arguments + "4GiB");  // so that nothing is to be compiled
  const Peak refused = measured(arguments + "10MiB");
  EXPECT_EQ(refused.status, 1);
  std::smatch needed;
  ASSERT_TRUE(std::regex_search(refused.out, needed, std::regex("--memory ([0-9]+MiB)")))
      << refused.out;
  EXPECT_LT(std::stod(needed[1]), 300) << refused.out;
  const Peak runs = measured(arguments + needed[1].str());
  EXPECT_EQ(runs.status, 0) << runs.out;
  EXPECT_LE(runs.stated, (std::stod(needed[1]) + 0.05) * 0x1p20);
}

}  // namespace
