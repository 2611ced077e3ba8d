#pragma once
// Runs random command lines with the real `weir` and judges what comes out: no signal, no hang, no
// message that only a programmer understands, an exit status of tools/README.md, and nothing done
// where the usage was wrong.
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "fuzz/command_lines.h"

namespace weir::test {

struct FuzzResult {
  std::map<int, int> statuses;  ///< exit status to number of runs
  std::map<std::string, int> commands;
  int runs = 0, findings = 0;
  std::string
      report;  ///< a paragraph a finding: what is wrong, the command line, the end of output
};

class CommandFuzz {
 public:
  /// Works in `folder`, which it makes with the inputs that command lines name: checkpoints, texts,
  /// programs, token arrays, a finished run, and damaged ones of each.
  CommandFuzz(std::string command, std::filesystem::path folder, double seconds_limit);

  /// Runs the lines [first, first + count) of a seed.
  FuzzResult run(uint64_t seed, uint64_t first, uint64_t count);

 private:
  struct Outcome {
    int status = 0, signal = 0;
    bool late = false;
    std::string out, err;
  };
  void make_fixture() const;
  void prepare(const CommandLine& line) const;
  Outcome execute(const CommandLine& line) const;
  std::string problem(const CommandLine& line, const Outcome& outcome, bool changed) const;
  std::string listing() const;
  void shell(const std::string& commands) const;

  std::string command_;
  std::filesystem::path folder_, fixture_, work_;
  double limit_;
};

}  // namespace weir::test
