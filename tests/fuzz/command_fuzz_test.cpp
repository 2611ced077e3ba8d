// A few hundred command lines of a fixed seed, among the tests.
#include "fuzz/command_fuzz.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace weir::test {
namespace {

TEST(CommandFuzz, FixedSeed) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("weir-fuzz-" + std::to_string(getpid()));
  const FuzzResult result = CommandFuzz(WEIR_COMMAND, folder, 60).run(1, 0, 150);
  std::filesystem::remove_all(folder);
  EXPECT_EQ(result.findings, 0) << result.report;
  EXPECT_EQ(result.runs, 150);
  // The lines reach what lies behind the checks, and the checks.
  EXPECT_GT(result.statuses.at(0), 20);
  EXPECT_GT(result.statuses.at(2), 20);
}

}  // namespace
}  // namespace weir::test
