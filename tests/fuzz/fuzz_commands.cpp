// fuzz_commands WEIR FOLDER [COUNT [SEED [FIRST [SECONDS]]]]: command lines FIRST .. FIRST + COUNT
// of a seed, run in FOLDER; prints findings as they come and a summary, status 1 if there are any.
// With COUNT 0 it prints line FIRST.
#include <fmt/format.h>

#include <cstdlib>

#include "fuzz/command_fuzz.h"

int main(int argc, char** argv) {
  using namespace weir::test;
  if (argc < 3) {
    fmt::print(stderr, "usage: fuzz_commands WEIR FOLDER [COUNT [SEED [FIRST [SECONDS]]]]\n");
    return 2;
  }
  const auto number = [&](int at, uint64_t otherwise) {
    return argc > at ? std::strtoull(argv[at], nullptr, 10) : otherwise;
  };
  const uint64_t count = number(3, 1000), seed = number(4, 1), first = number(5, 0);
  if (count == 0) {
    fmt::print("{}\n", make_command_line(seed, first, "../fixture").text());
    return 0;
  }
  CommandFuzz fuzz(std::filesystem::absolute(argv[1]).string(), std::filesystem::absolute(argv[2]),
                   static_cast<double>(number(6, 20)));
  FuzzResult all;
  constexpr uint64_t part = 100;
  for (uint64_t done = 0; done < count; done += part) {
    const FuzzResult result = fuzz.run(seed, first + done, std::min(part, count - done));
    all.runs += result.runs;
    all.findings += result.findings;
    for (const auto& [status, runs] : result.statuses) all.statuses[status] += runs;
    for (const auto& [command, runs] : result.commands) all.commands[command] += runs;
    fmt::print("{}", result.report);
    std::fflush(stdout);
  }
  fmt::print("{} runs, {} findings; exit status", all.runs, all.findings);
  for (const auto& [status, runs] : all.statuses) fmt::print(" {}: {}", status, runs);
  fmt::print("\n");
  return all.findings > 0 ? 1 : 0;
}
