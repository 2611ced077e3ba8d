#pragma once
// The commands of `weir`, one a file. Each adds its table of options to the list; what the table's
// action returns is the exit status.
#include <memory>
#include <string>
#include <vector>

#include "lab/train/config.h"
#include "support/target.h"
#include "support/usage_error.h"
#include "tools/options.h"

namespace weir {

using Commands = std::vector<std::unique_ptr<OptionTable>>;

void add_demo(Commands& commands);
void add_train(Commands& commands);
void add_sweep(Commands& commands);
void add_tune(Commands& commands);
void add_report(Commands& commands);
void add_compare(Commands& commands);
void add_export(Commands& commands);
void add_dump(Commands& commands);
void add_run(Commands& commands);
void add_probes(Commands& commands);
void add_tokens(Commands& commands);
void add_measure(Commands& commands);
void add_check(Commands& commands);
void add_dial(Commands& commands);
void add_heads(Commands& commands);
void add_quantize(Commands& commands);
void add_specialize(Commands& commands);
void add_eval(Commands& commands);
void add_convert(Commands& commands);
void add_info(Commands& commands);
/// All of them, in the order of `weir --help`.
Commands all_commands();

/// A table for a command, kept in the list.
OptionTable& add_command(Commands& commands, const std::string& name, const std::string& summary);

/// The command line as it was given, quoted where a shell needs it.
std::string& command_line();

/// The target of WEIR_TARGET, the host by default; a user error if this machine cannot run it and
/// `to_run`.
Target chosen_target(bool to_run);
/// `given`, else WEIR_THREADS, else 0 (all cores); more than the cores there are is said to be
/// useless, and as many as those are taken.
int chosen_threads(int given);

/// A configuration file, if one is among the words, and key=value words on top of `base`. One error
/// lists everything wrong with it, the files that it names and, if `writes`, the folder `out`.
RunConfig config_of_words(const std::string& command, const std::vector<std::string>& words,
                          const RunConfig& base = {}, bool writes = false);
/// Adds files that the data of a run need and that are not there.
void check_data(const DataConfig& data, UsageProblems& problems);
/// A hint for a word such as --steps, which is a key.
std::string key_of_option(const std::string& name);
/// Why the interpreter and --memory exclude each other.
inline constexpr const char* kInterpreterMemory =
    "The interpreter holds all values in f64, whatever they take.";
inline constexpr const char* kCheckFiniteMeaning =
    "look at every value as it is computed, and name the first that is not finite";
/// The rule of --threads and its meaning.
inline ValueRule thread_count() { return within(0, kMaxThreads); }

struct TrainOutcome;
/// Prints the summary and writes the report of a finished run, or says how to resume an
/// interrupted one; the exit status.
int finish_run(const RunConfig& config, const TrainOutcome& outcome);

}  // namespace weir
