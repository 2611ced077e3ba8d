// The `weir` command: exit status 0 success, 1 failure, 2 usage, 75 start a sweep again, 128 + n
// ended by signal n.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>
#include <nlohmann/json.hpp>
#include <system_error>

#include "engine/memory.h"
#include "io/json_error.h"
#include "io/utf8.h"
#include "passes/debug.h"
#include "passes/pipeline.h"
#include "support/env.h"
#include "support/log.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "support/value_rule.h"
#include "support/versions.h"
#include "tools/command.h"
#include "tools/standard_output.h"

namespace weir {

namespace {

std::string quoted(const std::string& word) {
  const bool plain =
      !word.empty() && word.find_first_of(" \t\n'\"\\$`*?{}()[];&|<>~#!") == std::string::npos;
  if (plain) return word;
  std::string text = "'";
  for (char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string general_help(const Commands& commands) {
  std::string text =
      "Weir measures and regulates the gradient stream of transformers: a compiler in which every "
      "probe is\npart of the program.\n\nUsage: weir COMMAND [options]\n\nCommands:\n";
  for (const auto& command : commands)
    text += fmt::format("  {:<10}{}\n", command->command(), command->summary());
  return text +
         "\nOptions:\n  -h, --help  print this and end\n  --version   print the version and end\n"
         "\nStart with `weir demo`. Each command has examples: `weir train --help`.\n";
}

// Arguments go into records and reports, which are UTF-8.
void check_encoding(const std::vector<std::string>& words) {
  UsageProblems problems("weir");
  for (size_t i = 0; i < words.size(); ++i) {
    std::string storage;
    if (valid_utf8(words[i], storage) != words[i])
      problems.add(
          fmt::format("argument {} is '{}', which is no UTF-8. Rename the file, or give a link to "
                      "it.",
                      i + 1, valid_utf8(words[i], storage)));
  }
  problems.raise();
}

OptionTable& command_of(const Commands& commands, const std::string& name) {
  std::vector<std::string> names;
  for (const auto& command : commands) {
    if (command->command() == name) return *command;
    names.push_back(command->command());
  }
  if (name.starts_with('-'))
    throw UsageError(
        fmt::format("'{}' comes before a command, or is no option. Use weir COMMAND "
                    "[options].",
                    short_text(name)));
  throw UsageError(fmt::format("'{}' is no command. There are {}.{}", short_text(name),
                               join(names, ", "), did_you_mean(name, names)));
}

int run(const std::vector<std::string>& words, std::string& help) {
  check_encoding(words);
  keep_on_one_line(words);
  std::error_code gone;
  keep_on_one_line({std::filesystem::current_path(gone).string()});
  for (const EnvironmentVariable& variable : environment_variables())
    keep_on_one_line({environment(variable.name)});
  command_line() = "weir";
  for (const std::string& word : words) command_line() += " " + quoted(word);
  const Commands commands = all_commands();
  if (words.empty()) throw UsageError("a command is needed, such as `weir demo`.");
  if (words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    fmt::print("{}", general_help(commands));
    return 0;
  }
  if (words[0] == "--version") {
    fmt::print("weir {}\n", build_versions().front().second);
    return 0;
  }
  OptionTable& command = command_of(commands, words[0]);
  help = "weir " + words[0] + " --help";
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  if (asks_for_help(rest)) {
    fmt::print("{}", command.help());
    return 0;
  }
  UsageProblems problems("environment");
  check_environment(problems);
  problems.raise();
  debug_options(pass_names());  // what is wrong with it shows before any work
  for (const std::string& sentence : unknown_variables()) log_warning("{}", sentence);
  command.read(rest);
  return command.run();
}

// The one place where what no part of Weir has put into words gets them.
int failed(const std::string& message) {
  print_error(message);
  return 1;
}

int run_and_explain(const std::vector<std::string>& words) {
  std::string help = "weir --help";
  try {
    return run(words, help);
  } catch (const UsageError& error) {
    print_error(fmt::format("{}\nTry `{}`.", error.what(), help));
    return 2;
  } catch (const std::bad_alloc&) {
    return failed(fmt::format(
        "[memory] there is not enough memory: {} of this process are in use, {} are free. Take "
        "smaller sizes, or give back memory elsewhere.",
        human_bytes(static_cast<double>(resident_memory())),
        human_bytes(static_cast<double>(free_memory()))));
  } catch (const std::filesystem::filesystem_error& error) {
    return failed(fmt::format("[file] cannot use {}: {}.",
                              error.path1().empty() ? "a file" : error.path1().string(),
                              error.code().message()));
  } catch (const nlohmann::json::exception& error) {
    return failed(fmt::format("[json] a file of JSON is not of the form that is needed: {}.",
                              json_reason(error.what())));
  } catch (const std::system_error& error) {
    // A failed print to standard output, which is told of at the end of the process.
    if (std::ferror(stdout) != 0) return 1;
    return failed(fmt::format("[system] the system refuses: {}.", error.code().message()));
  } catch (const std::exception& error) {
    return failed(error.what());
  }
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) {
  weir::prepare_standard_files();
  const int status =
      weir::run_and_explain(std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
  return weir::finish_standard_output(status, argc > 1 ? fmt::format("weir {}", argv[1]) : "weir");
}
