// The `weir` command: exit status 0 success, 1 failure, 2 usage, 128 + n ended by signal n.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <exception>

#include "lab/versions.h"
#include "support/env.h"
#include "support/error.h"
#include "support/text.h"
#include "tools/command.h"
#include "tools/standard_output.h"

namespace weir {

std::string& command_line() {
  static std::string text;
  return text;
}

Target chosen_target(bool to_run) {
  Target target = parse_target(environment("WEIR_TARGET"));
  if (to_run && !runs_here(target))
    user_error("target", "this machine ({}) cannot run code for {} (WEIR_TARGET).",
               host_target().isa(), target.isa());
  return target;
}

int chosen_threads(int given) {
  if (given > 0) return given;
  const std::string text = environment("WEIR_THREADS");
  if (text.empty()) return 0;
  int threads = 0;
  for (char c : text) {
    if (!std::isdigit(static_cast<unsigned char>(c)) || threads > 4096)
      user_error("threads", "WEIR_THREADS is '{}', but a positive number is needed.", text);
    threads = 10 * threads + (c - '0');
  }
  return threads;
}

namespace {

std::string quoted(const std::string& word) {
  const bool plain =
      !word.empty() && word.find_first_of(" \t\n'\"\\$`*?{}()[];&|<>~#!") == std::string::npos;
  if (plain) return word;
  std::string text = "'";
  for (char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

int run(int argc, char** argv) {
  command_line() = "weir";
  for (int i = 1; i < argc; ++i) command_line() += " " + quoted(argv[i]);
  CLI::App app(
      "Weir measures and regulates the gradient stream of transformers: a compiler in "
      "which every probe is part of the program.",
      "weir");
  app.require_subcommand(1);
  app.set_version_flag("--version", "weir " + build_versions().front().second);
  app.footer("Start with `weir demo`. Each command has examples: `weir train --help`.");
  Action action;
  add_demo(app, action);
  add_train(app, action);
  add_tune(app, action);
  add_report(app, action);
  add_measure(app, action);
  add_eval(app, action);
  add_dump(app, action);
  add_run(app, action);
  add_probes(app, action);
  add_tokens(app, action);
  add_convert(app, action);
  add_info(app, action);
  std::vector<std::string> commands;
  for (const CLI::App* command : app.get_subcommands({})) commands.push_back(command->get_name());
  if (argc > 1 && argv[1][0] != '-' &&
      std::find(commands.begin(), commands.end(), argv[1]) == commands.end()) {
    fmt::print(stderr, "error: '{}' is no command. There are {}.{}\n", argv[1],
               join(commands, ", "), did_you_mean(argv[1], commands));
    return 2;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    fmt::print(stderr, "error: {}\n", error.what());
    const CLI::App* asked = &app;
    for (const CLI::App* command : app.get_subcommands()) asked = command;
    fmt::print(stderr, "Try `weir{}{} --help`.\n", asked == &app ? "" : " ",
               asked == &app ? "" : asked->get_name());
    return 2;
  }
  return action();
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) {
  weir::prepare_standard_files();
  int status = 1;
  try {
    status = weir::run(argc, argv);
  } catch (const std::exception& error) {
    // A failed print is told of below.
    if (std::ferror(stdout) == 0) weir::print_error(error.what());
  }
  return weir::finish_standard_output(status, argc > 1 ? fmt::format("weir {}", argv[1]) : "weir");
}
