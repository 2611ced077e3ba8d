// `weir compare` on folders of runs: what it prints and writes, and what it refuses.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "lab/report/sample_compare.h"
#include "tools/command_test_util.h"

namespace {

using Json = nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Result = weir::test::CommandResult;

class CompareCommand : public weir::test::Command {
 protected:
  void SetUp() override {
    for (int seed = 1; seed <= 2; ++seed) {
      const double shift = 0.01 * seed;
      weir::test::write_compared_run(
          folder_ / fmt::format("run{}", seed), seed,
          {weir::test::sinking_arm(shift), weir::test::regulated_arm(shift, 0.02)});
    }
  }
};

TEST_F(CompareCommand, WritesTableRecordCsvAndReport) {
  const Result result = weir("compare run1 run2 --json out.json --csv out.csv");
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* text :
       {"At 25,600 tokens (step 100)\n", "At a loss of 2.0200 nats\n", "attention sink",
        "generator Philox4x32-10, a stream for each resample, seed 1", "Record: out.json\n",
        "Table: out.csv\n", "/out.html\n"})
    EXPECT_THAT(result.out, HasSubstr(text));
  const Json record = Json::parse(text_of(folder_ / "out.json"));
  EXPECT_EQ(record["format"], "weir.compare/1");
  EXPECT_THAT(record["provenance"]["command"].get<std::string>(), StartsWith("weir compare run1"));
  EXPECT_THAT(text_of(folder_ / "out.html"), StartsWith("<!DOCTYPE html>"));
  // What it wrote is replaced, anything else is not.
  EXPECT_EQ(weir("compare run1 --json out.json --csv out.csv").status, 0);
  write("out.csv", "arm,mine\n");
  const Result refused = weir("compare run1 --csv out.csv");
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, HasSubstr("is not a table of `weir compare` as CSV"));
}

TEST_F(CompareCommand, TakesThresholdsAndTheSeedOfResamples) {
  const Result result = weir(
      "compare run1 run2 --onset-norm 1.2 --onset-measurements 2 --seed 9 --confidence 0.5 --loss "
      "2.5");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("stays beyond its threshold for 2 measurements"),
                                HasSubstr("norm growth: norm ratio > 1.2)"), HasSubstr("seed 9)"),
                                HasSubstr("50 % interval"), HasSubstr("At a loss of 2.5000 nats"),
                                Not(HasSubstr("too few"))));
}

TEST_F(CompareCommand, SaysAllThatIsWrongAtOnce) {
  const Result wrong =
      weir("compare run1 --confidence 1 --resamples 3 --loss low --onset-sink 2 --json x/out.json");
  EXPECT_EQ(wrong.status, 2);
  for (const char* name : {"--confidence", "--resamples", "--loss", "--onset-sink", "x/out.json"})
    EXPECT_THAT(wrong.err, HasSubstr(name));
  EXPECT_THAT(wrong.err, HasSubstr("a number of nats, or lowest"));
  const Result none = weir("compare");
  EXPECT_EQ(none.status, 2);
  EXPECT_THAT(none.err, HasSubstr("folder is missing: folders of runs or sweeps."));
  const Result nothing = weir("compare . run1");
  EXPECT_EQ(nothing.status, 1);
  EXPECT_THAT(nothing.err,
              HasSubstr(". is no folder of a run (it has no run.json) and of no sweep"));
  EXPECT_THAT(weir("compare run1 --json out.html").err, HasSubstr("Give --report FILE."));
}

// As they are trained: two seeds of two arms, one of them stopped early.
TEST_F(CompareCommand, ReadsWhatTrainWrites) {
  const std::string sizes =
      "steps=4 batch=2 length=16 model.layers=1 model.heads=1 model.d_model=16 model.d_ff=16 "
      "'arms=baseline; relu: attention=relu'";
  for (int seed : {1, 2}) {
    const Result trained = weir(fmt::format("train out=t{} seed={} {}", seed, seed, sizes));
    ASSERT_EQ(trained.status, 0) << trained.err;
  }
  std::istringstream lines(text_of(folder_ / "t2/relu/metrics.jsonl"));
  std::string first;
  std::getline(lines, first);
  write("t2/relu/metrics.jsonl", first + "\n");
  const Result compared = weir("compare t1 t2");
  ASSERT_EQ(compared.status, 0) << compared.err;
  EXPECT_THAT(compared.out,
              AllOf(HasSubstr("At 128 tokens (step 4)\n"),
                    HasSubstr("Left out: t2/relu, relu, seed 2. It is not finished: its last "
                              "measured step is 0 of 4.")));
  // The report of a run takes thresholds, too.
  const Result report = weir("report t1 --out r.html --onset-gradient 100");
  ASSERT_EQ(report.status, 0) << report.err;
  EXPECT_THAT(text_of(folder_ / "r.html"), HasSubstr("gradient sink: R_GS &gt; 100"));
}

}  // namespace
