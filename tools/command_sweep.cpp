// weir sweep: arms x seeds x any keys, each entry a run, by any number of processes.
#include <fmt/format.h>
#include <sysexits.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "io/file.h"
#include "lab/sweep/sweep.h"
#include "lab/sweep/sweep_results.h"
#include "support/text.h"
#include "tools/command.h"
#include "tools/paths.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

struct SweepArguments {
  std::string file, out;
  int64_t index = -1;
  int64_t stale = SweepFolder::kStaleAfter;
  int threads = 0;
  bool list = false, retry = false, no_wait = false, overwrite = false;
};

// What the word means: the text of a sweep, its file, or the folder of one.
struct Source {
  ConfigText text;
  std::string out;  ///< where no --out is given
};

Source source_of(const std::string& word) {
  if (word.find_first_not_of(" \t\n") != std::string::npos && trim(word).front() == '{')
    return {{word, "the sweep"}, "runs/sweep"};
  const bool is_folder = fs::is_directory(word);
  const fs::path file = is_folder ? fs::path(word) / "sweep.json" : fs::path(word);
  if (is_folder && !fs::exists(file))
    user_error(
        "sweep",
        "{} is a folder without a sweep.json. Give the file of a sweep, its text ({{...}}), or "
        "the folder of one that was begun.",
        word);
  Source source{{read_file(file.string()), file.string()},
                (fs::path("runs") / file.stem()).string()};
  if (file.filename() == "sweep.json" &&
      fs::is_directory(fs::absolute(file).parent_path() / "runs"))
    source.out = file.parent_path().empty() ? "." : file.parent_path().string();
  if (is_folder) source.out = word;
  return source;
}

// The plan; one error says everything that is wrong with it and with the files that it names.
SweepPlan plan_of(const SweepArguments& options, const Source& source, const std::string& out) {
  UsageProblems problems("sweep");
  SweepPlan plan;
  problems.collect([&] { plan = read_sweep(source.text, problems); });
  const auto count = static_cast<int64_t>(plan.entries.size());
  if (count > 0 && options.index >= count)
    problems.add(fmt::format("--index is {}, but the sweep has {} entries: 0 to {} are there.",
                             options.index, count, count - 1));
  std::set<std::string> checked;  // entries mostly have the same data
  for (const SweepEntry& entry : plan.entries) {
    const DataConfig& data = entry.config.data;
    if (checked
            .insert(data.kind + "\n" + join(data.files, "\n") + "\n" + data.tokenizer + "\n" +
                    data.bigrams)
            .second)
      check_data(data, problems);
  }
  if (!options.list)
    if (const std::string wrong = output_problem(out, true); !wrong.empty())
      problems.add_failure("--out: " + wrong);
  if (!plan.entries.empty())
    problems.collect([&] { SweepFolder(out).check(plan, options.overwrite); });
  problems.raise();
  return plan;
}

int list(const SweepPlan& plan, const SweepFolder& folder) {
  size_t arm = 3, run = 3;
  std::vector<std::string> points;
  for (const SweepEntry& entry : plan.entries) {
    points.push_back(entry_text(entry));
    arm = std::max(arm, points.back().size());
    run = std::max(run, entry.run.size());
  }
  fmt::print("{:>5}  {:<{}}  {:<{}}  state\n", "entry", "run", run, "what", arm);
  for (const SweepEntry& entry : plan.entries)
    fmt::print("{:>5}  {:<{}}  {:<{}}  {}\n", entry.index, entry.run, run,
               printable(points[static_cast<size_t>(entry.index)]), arm,
               printable(status_text(folder.status(entry), entry.config.steps)));
  return 0;
}

int finish(const SweepOutcome& outcome, const SweepPlan& plan, const SweepFolder& folder,
           const std::string& again) {
  SweepResults results(folder);
  fmt::print("{}", results_table(results.of(plan)));
  fmt::print("{} runs are done, {} have failed, {} are unfinished. Results: {}\n", outcome.done,
             outcome.failed, outcome.unfinished, printable(folder.results_file().string()));
  if (outcome.unfinished > 0) {
    fmt::print("{}. Go on with\n\n  {}\n",
               outcome.signal != 0 ? "Interrupted; a checkpoint is written"
                                   : "Other processes are at the rest",
               printable(again));
    return EX_TEMPFAIL;
  }
  if (outcome.failed > 0)
    fmt::print("`weir sweep {} --list` says why runs have failed, --retry tries them once more.\n",
               printable(folder.path().string()));
  return outcome.failed > 0 ? 1 : 0;
}

int run_sweep_command(const SweepArguments& options) {
  const Source source = source_of(options.file);
  const std::string out = options.out.empty() ? source.out : options.out;
  SweepPlan plan = plan_of(options, source, out);
  SweepFolder folder(out, options.stale);
  if (options.list) return list(plan, folder);
  for (SweepEntry& entry : plan.entries)
    entry.config.threads = chosen_threads(
        options.threads > 0 ? options.threads : static_cast<int>(entry.config.threads));
  SweepOptions sweep;
  sweep.train = {.target = chosen_target(true), .command = command_line()};
  if (options.index >= 0) sweep.index = options.index;
  sweep.waits = !options.no_wait;
  sweep.retries = options.retry;
  sweep.overwrite = options.overwrite;
  const SweepOutcome outcome = run_sweep(plan, folder, sweep);
  return finish(outcome, plan, folder,
                fmt::format("weir sweep {}{}", out,
                            options.index >= 0 ? fmt::format(" --index {}", options.index) : ""));
}

}  // namespace

void add_sweep(Commands& commands) {
  auto options = std::make_shared<SweepArguments>();
  OptionTable& table = add_command(
      commands, "sweep", "train arms x seeds x values of keys, by any number of processes");
  table
      .add("plan", &options->file, some_text(),
           "a JSON file, its text, or the folder of a sweep that was begun")
      .needed();
  table.add("--out", &options->out, output_folder(),
            "folder of the sweep; runs/NAME of NAME.json if not given, runs/sweep of a text");
  table.add("--index", &options->index, within(0, kMaxSweepEntries - 1),
            "make the run of this entry only, as a task of an array does");
  table.flag("--list", options->list, "print the state of every entry, and do nothing");
  table.flag("--retry", options->retry, "try runs that have failed once more");
  table.flag("--no-wait", options->no_wait,
             "do not wait for runs that other processes make, to take over those that end");
  table
      .add("--stale", &options->stale, within(1, 86400),
           "seconds without a sign of life after which a process of another machine counts as gone")
      .with_default();
  table
      .add("--threads", &options->threads, thread_count(),
           "worker threads of this process, whatever the sweep says; 0 leaves it to the sweep")
      .with_default();
  table.flag(
      "--overwrite", options->overwrite,
      "put this plan in the place of that in the folder, even if entries are lost; runs that "
      "are there stay");
  table.exclude("--list", "--retry");
  table.exclude("--list", "--overwrite");
  table.hint(key_of_option);
  table.footer(
      "A sweep is {\"base\": {key: value}, \"arms\": {name: {key: value}}, \"seeds\": [1, 2],\n"
      "\"grid\": {key: [values]}}; keys are those of `weir train`. Runs are in FOLDER/runs, their "
      "final\nnumbers in FOLDER/results.json.\n"
      "\nExit status: 0 all runs are done; 1 a run has failed, the others are done; 75 runs are "
      "left "
      "(after\nSIGTERM or SIGINT, with a checkpoint, or with --no-wait): start it again.\n"
      "\nExamples:\n"
      "  weir sweep examples/experiments/v_scale.json\n"
      "  weir sweep examples/experiments/v_scale.json --list\n"
      "  weir sweep '{\"base\": {\"steps\": 200}, \"grid\": {\"optimizer.rate\": [0.01, 0.003]}}' "
      "--out runs/rates\n"
      "  sbatch --array=0-11 --wrap 'exec weir sweep a.json --index $SLURM_ARRAY_TASK_ID'\n"
      "  parallel -j 2 weir sweep a.json --index {} ::: {0..11}\n"
      "  mpirun -np 2 weir sweep a.json");
  table.action([options] { return run_sweep_command(*options); });
}

}  // namespace weir
