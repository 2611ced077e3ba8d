// `weir specialize`: what it prints and writes, and what it refuses.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tools/command_test_util.h"

namespace {

using Json = nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class SpecializeCommand : public weir::test::Command {};

TEST_F(SpecializeCommand, WritesTableRecordAndReport) {
  const auto result = weir(
      "specialize strengths=2,1 heads=2 dimensions=40,80,160 seeds=2 start=planted "
      "'start_m=0.5,0;0,0.5' end=0.5 measurements=3 lattice_points=128 samples=1000 --json "
      "out.json");
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* text :
       {"flipped, bayes-softmax, 2 heads\n", "D = 160: 80 steps of 2 runs in ", "Bayes risk",
        "dev. of r", "without rate", "0 of 2", "Record: out.json\n", "/out.html\n"})
    EXPECT_THAT(result.out, HasSubstr(text));
  const Json record = Json::parse(text_of(folder_ / "out.json"));
  EXPECT_EQ(record["format"], "weir.specialize/1");
  EXPECT_THAT(record["provenance"]["command"].get<std::string>(), StartsWith("weir specialize "));
  EXPECT_FALSE(record["provenance"].contains("model"));
  const std::string page = text_of(folder_ / "out.html");
  EXPECT_THAT(page, AllOf(StartsWith("<!DOCTYPE html>"), HasSubstr("Deviation from the flow"),
                          HasSubstr("the deviation of r falls as D to the power -0."),
                          HasSubstr("weir specialize strengths=2,1")));
}

TEST_F(SpecializeCommand, ListsItsKeysAndRefusesWhatItDoesNotKnow) {
  EXPECT_THAT(weir("specialize --keys").out,
              AllOf(HasSubstr("experiment       training by SGD"), HasSubstr("later_rates")));
  EXPECT_THAT(weir("specialize").err, HasSubstr("nothing says what to do. Give a JSON file"));
  const auto result = weir("specialize heads=0 activation=softmax-2 --json notes.txt");
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("heads"), HasSubstr("activation is 'softmax-2'")));
}

// The files of the experiments that RESULTS.md names.
TEST_F(SpecializeCommand, TakesTheExamples) {
  for (const char* name : {"limit", "order", "risk", "pruning"}) {
    const std::string file =
        fmt::format("{}/../../examples/experiments/specialize-{}.json", WEIR_TEST_DATA, name);
    const auto result =
        weir("specialize " + file +
             " dimensions=60 seeds=1 end=0.2 later_rates= lattice_points=64 samples=100 factors=1 "
             "random_starts=0 activation=bayes-softmax measurements=2");
    EXPECT_EQ(result.status, 0) << name << result.err;
    EXPECT_THAT(result.out, HasSubstr("bayes-softmax")) << name;
  }
}

}  // namespace
