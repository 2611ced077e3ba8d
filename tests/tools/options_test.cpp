// The table of options itself: every mistake of a command line in one message.
#include "tools/options.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tools/command.h"

namespace weir {
namespace {

struct Sample {
  std::string model, json, report;
  std::vector<std::string> text, words;
  int64_t batch = 4;
  bool quick = false;
  OptionTable table = OptionTable("measure", "measures");

  Sample() {
    table.add("--model", &model, some_text(), "what to measure").needed();
    table.add("--batch", &batch, within(1, 8), "sequences").with_default();
    table.add("--text", &text, some_text(), "texts").many();
    table.add("--json", &json, output_file(), "the record");
    table.add("--report", &report, output_file(), "the page");
    table.flag("--quick", quick, "less");
    table.add("word", &words, some_text(), "further words");
    table.exclude("--quick", "--report");
  }
  std::string error(const std::vector<std::string>& given) {
    try {
      table.read(given);
    } catch (const UsageError& usage) {
      return usage.what();
    } catch (const UserError& failure) {
      return std::string("status 1: ") + failure.what();
    }
    return "";
  }
};

TEST(Options, AreReadInAnyOrder) {
  Sample s;
  EXPECT_EQ(s.error({"a", "--text", "x", "y", "--batch=8", "--text", "z", "--model", "m", "--quick",
                     "--", "--b"}),
            "");
  EXPECT_EQ(s.text, (std::vector<std::string>{"x", "y", "z"}));
  EXPECT_EQ(s.words, (std::vector<std::string>{"a", "--b"}));
  EXPECT_EQ(s.batch, 8);
  EXPECT_TRUE(s.quick);
  EXPECT_EQ(s.model, "m");
}

TEST(Options, AllMistakesComeInOneMessage) {
  EXPECT_EQ(Sample().error({"--batch", "-3", "--jsn", "a", "--quick=1", "--report", "r",
                            "--seq-len", "5", "--text"}),
            "[measure] 7 problems:\n"
            "  - --batch is '-3', but a whole number from 1 to 8 is needed.\n"
            "  - there is no option --jsn. Did you mean --json?\n"
            "  - --quick takes no value, but '1' is given.\n"
            "  - there is no option --seq-len.\n"
            "  - --text needs a value: texts.\n"
            "  - --model is missing: what to measure.\n"
            "  - --quick and --report exclude each other.");
}

TEST(Options, OutputsAreCheckedBeforeAnythingIsDone) {
  EXPECT_EQ(Sample().error({"--model", "m", "--json", "x", "--report", "./x"}),
            "[measure] --json and --report are the same file, ./x.");
  EXPECT_EQ(Sample().error({"--model", "m", "--json", "/nodir/x.json"}),
            "status 1: [measure] --json: /nodir/x.json cannot be written: the folder /nodir does "
            "not exist.");
  EXPECT_EQ(Sample().error({"--model", "m", "--json", "/"}),
            "status 1: [measure] --json: / is a folder; the name of a file is needed.");
  EXPECT_EQ(Sample().error({"--model", "m", "--json", "/dev/null"}),
            "status 1: [measure] --json: /dev/null is a device, pipe or socket; the name of a file "
            "is needed.");
}

TEST(Options, ExclusionsMayHaveAReason) {
  Sample s;
  s.table.exclude("--quick", "--json", "Nothing is written then.");
  EXPECT_EQ(s.error({"--model", "m", "--quick", "--json", "x"}),
            "[measure] --quick and --json exclude each other. Nothing is written then.");
}

// Of a value that is wrong nothing follows.
TEST(Options, AWrongValueIsOneMistake) {
  Sample s;
  std::string tokens;
  ValueRule rule = input_path();
  rule.form = "a .npy file";
  rule.fits = [](const std::string& text) { return text.ends_with(".npy"); };
  s.table.add("--tokens", &tokens, rule, "ids");
  s.table.check([&](UsageProblems& problems) {
    if (s.table.given("--tokens") && !s.table.refused("--tokens") && tokens.empty())
      problems.add("--tokens is empty.");
  });
  EXPECT_EQ(s.error({"--model", "m", "--tokens", "absent.bin"}),
            "[measure] --tokens is 'absent.bin', but a .npy file is needed.");
  EXPECT_TRUE(s.table.refused("--tokens"));
}

TEST(Options, OtherProgramsNamesAreKnown) {
  EXPECT_EQ(Sample().error({"--model", "m", "--batch-size", "5"}),
            "[measure] there is no option --batch-size. Did you mean --batch?");
  EXPECT_EQ(Sample().error({"--model", "m", "-o", "x"}),
            "[measure] there is no option -o. Did you mean --json?");
  EXPECT_EQ(Sample().error({"--model", "a", "--model", "b"}),
            "[measure] --model is given 2 times; give it once.");
}

// The tables of all commands: rows that can be told apart, each with a meaning.
TEST(Options, EveryCommandHasAWholeTable) {
  for (const auto& command : all_commands()) {
    std::set<std::string> names;
    for (const Option& option : command->rows()) {
      EXPECT_TRUE(names.insert(option.name).second) << command->command() << " " << option.name;
      EXPECT_FALSE(option.meaning.empty()) << option.name;
      const bool number = std::holds_alternative<int*>(option.slot) ||
                          std::holds_alternative<int64_t*>(option.slot) ||
                          std::holds_alternative<double*>(option.slot);
      EXPECT_TRUE(!number || (std::isfinite(option.rule.low) && std::isfinite(option.rule.high)))
          << command->command() << " " << option.name << " has no range";
    }
    EXPECT_NE(command->help().find("xamples:\n  "), std::string::npos) << command->command();
  }
}

}  // namespace
}  // namespace weir
