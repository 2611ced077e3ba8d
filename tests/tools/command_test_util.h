#pragma once
// The `weir` command as a user runs it, in a folder of its own.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace weir::test {

namespace fs = std::filesystem;

struct CommandResult {
  int status = 0;
  std::string out, err;
};

class Command : public ::testing::Test {
 protected:
  Command() {
    std::string pattern = (fs::temp_directory_path() / "weir-command-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    setenv("WEIR_CACHE", WEIR_TEST_CACHE, 1);
  }
  ~Command() override { fs::remove_all(folder_); }

  static std::string text_of(const fs::path& file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
  }
  CommandResult weir(const std::string& arguments) const {
    return shell(fmt::format("{} {}", WEIR_COMMAND, arguments));
  }
  // Starts the command, sends it a signal when `file` has appeared, and waits for its end.
  CommandResult weir_until(const std::string& file, const char* signal,
                           const std::string& arguments) const {
    return shell(fmt::format(
        "({} {} & pid=$!; while [ ! -e {} ] && kill -0 $pid 2>/dev/null; do sleep 0.02; done; "
        "kill -{} $pid; wait $pid)",
        WEIR_COMMAND, arguments, file, signal));
  }
  CommandResult shell(const std::string& commands) const {
    const std::string line = fmt::format("cd {} && {} > out 2> err", folder_.string(), commands);
    const int status = std::system(line.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text_of(folder_ / "out"),
            text_of(folder_ / "err")};
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
  }

  fs::path folder_;
};

}  // namespace weir::test
