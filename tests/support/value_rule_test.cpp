#include "support/value_rule.h"

#include <gtest/gtest.h>

#include "support/env.h"
#include "support/usage_error.h"

namespace weir {
namespace {

TEST(ValueRule, NumbersHaveABothSidedRange) {
  int64_t batch = 7;
  const ValueRule rule = within(1, 1 << 20);
  for (const char* wrong : {"0", "-3", "1048577", "3.5", "", "x", "99999999999999999999", "1e3"}) {
    EXPECT_EQ(
        read_value("batch", wrong, &batch, rule),
        std::string("batch is '") + wrong + "', but a whole number from 1 to 1048576 is needed.");
    EXPECT_EQ(batch, 7) << wrong;
  }
  EXPECT_EQ(read_value("batch", "1048576", &batch, rule), "");
  EXPECT_EQ(batch, 1048576);
  double rate = 0.5;
  for (const char* wrong : {"nan", "inf", "-1e-300", "1.0000001"})
    EXPECT_EQ(read_value("rate", wrong, &rate, within(0, 1)),
              std::string("rate is '") + wrong + "', but a number from 0 to 1 is needed.");
  EXPECT_EQ(read_value("rate", "1", &rate, within(0, 1)), "");
  uint64_t seed = 0;
  EXPECT_EQ(read_value("seed", "18446744073709551615", &seed, within(0)), "");
  EXPECT_EQ(seed, UINT64_MAX);
  EXPECT_EQ(read_value("seed", "-1", &seed, within(0)),
            "seed is '-1', but a whole number of at least 0 is needed.");
}

TEST(ValueRule, ARefusalSaysWhy) {
  int64_t token = 3;
  ValueRule rule = within(0, 9);
  rule.refusals = {{"auto", "It is not known yet."}};
  EXPECT_EQ(read_value("token", "auto", &token, rule),
            "token is 'auto', but a whole number from 0 to 9 is needed. It is not known yet.");
  EXPECT_EQ(read_value("token", "aut", &token, rule),
            "token is 'aut', but a whole number from 0 to 9 is needed.");
  EXPECT_EQ(token, 3);
}

TEST(ValueRule, ChoicesFormsAndLists) {
  std::string text = "cosine";
  EXPECT_EQ(read_value("schedule", "cosin", &text, one_of({"cosine", "constant"})),
            "schedule is 'cosin'. Use cosine or constant. Did you mean cosine?");
  EXPECT_EQ(read_value("out", "", &text, output_folder()),
            "out is '', but a text that is not empty is needed.");
  EXPECT_EQ(read_value("memory", "lots", &text, memory_size()),
            "memory is 'lots', but a size such as 8GiB or 500M is needed.");
  EXPECT_EQ(text, "cosine");
  std::vector<int64_t> layers = {9};
  EXPECT_EQ(read_value("layers", "0, 3", &layers, within(0, 3)), "");
  EXPECT_EQ(layers, (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(
      read_value("layers", "0,4", &layers, within(0, 3)),
      "layers is '0,4', but a list of whole numbers from 0 to 3, separated by ',' is needed.");
  EXPECT_EQ(read_value("layers", "", &layers, within(0, 3)), "");
  EXPECT_TRUE(layers.empty());
}

TEST(ValueRule, VariablesOfTheEnvironmentHaveTheirs) {
  setenv("WEIR_THREADS", "-1", 1);
  setenv("WEIR_LOG", "loud", 1);
  setenv("WEIR_THREDS", "2", 1);
  UsageProblems problems("environment");
  check_environment(problems);
  try {
    problems.raise();
    FAIL() << "expected a UsageError";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(),
                 "[environment] 2 problems:\n"
                 "  - WEIR_THREADS is '-1', but a whole number from 1 to 4096 is needed.\n"
                 "  - WEIR_LOG is 'loud'. Use error, warning, info or debug.");
  }
  EXPECT_EQ(unknown_variables(),
            std::vector<std::string>{"WEIR_THREDS is no variable of Weir, and does nothing. Did "
                                     "you mean WEIR_THREADS?"});
  for (const char* name : {"WEIR_THREADS", "WEIR_LOG", "WEIR_THREDS"}) unsetenv(name);
}

TEST(UsageProblems, AreAUsageErrorUnlessAllIsAboutFiles) {
  UsageProblems files("train");
  files.collect([] { user_error("file", "there is no a."); });
  try {
    files.raise();
    FAIL();
  } catch (const UsageError&) {
    FAIL() << "a missing file is no usage error";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "[file] there is no a.");
  }
  files.add("steps is '-1'.");
  EXPECT_THROW(files.raise(), UsageError);
}

}  // namespace
}  // namespace weir
