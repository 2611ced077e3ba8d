#pragma once
// The commands of `weir`, one a file. Each adds itself to the command line; what it returns when
// it is called is the exit status.
#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "lab/config.h"
#include "support/target.h"

namespace weir {

/// What main() runs after parsing: set by the command that was given.
using Action = std::function<int()>;

void add_demo(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_tune(CLI::App& app, Action& action);
void add_report(CLI::App& app, Action& action);
void add_dump(CLI::App& app, Action& action);
void add_run(CLI::App& app, Action& action);
void add_probes(CLI::App& app, Action& action);
void add_tokens(CLI::App& app, Action& action);
void add_measure(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_convert(CLI::App& app, Action& action);
void add_info(CLI::App& app, Action& action);

/// The command line as it was given, quoted where a shell needs it.
std::string& command_line();

/// The target of WEIR_TARGET, the host by default; a user error if this machine cannot run it and
/// `to_run`.
Target chosen_target(bool to_run);
/// `given`, else WEIR_THREADS, else 0 (all cores).
int chosen_threads(int given);

/// A configuration file, if one is among the words, and key=value words on top of `base`.
RunConfig config_of_words(const std::string& command, const std::vector<std::string>& words,
                          const RunConfig& base = {});

struct TrainOutcome;
/// Prints the summary and writes the report of a finished run, or says how to resume an
/// interrupted one; the exit status.
int finish_run(const RunConfig& config, const TrainOutcome& outcome);

}  // namespace weir
