// weir export: numbers for other programs.
#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "lab/report/tidy_csv.h"
#include "lab/train/check_run.h"
#include "lab/train/run_folder.h"
#include "lab/train/run_place.h"
#include "support/error.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "tools/command.h"
#include "tools/outputs.h"
#include "tools/paths.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

struct ExportArguments {
  std::vector<std::string> inputs, metrics;
  std::string csv;
  bool overwrite = false;
};

std::string name_of(const fs::path& input) {
  const fs::path whole = fs::absolute(input).lexically_normal();
  if (!fs::is_directory(whole)) return whole.stem().string();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

// The arms of a run that have begun; of one that is not sound everything that is wrong is said.
std::vector<TidySource> arms_of(const fs::path& run) {
  check_run(run);
  RunConfig config = read_run_config(run / "config.json", "export");
  if (config.arms.empty()) config.arms.push_back({"run", {}});
  std::vector<TidySource> arms;
  for (const ArmConfig& arm : config.arms) {
    const fs::path folder = run / arm.name;
    arms.push_back(
        {arm.name, folder / "metrics.jsonl", folder / "loss.jsonl", folder / "validation.jsonl"});
  }
  return arms;
}

std::vector<TidySource> sources_of(const ExportArguments& options) {
  UsageProblems problems("export");
  std::vector<TidySource> sources;
  std::map<std::string, std::string> inputs;  // by arm
  for (const std::string& input : options.inputs) {
    std::vector<TidySource> found;
    if (!fs::is_directory(input))
      found = {{name_of(input), input}};
    else if (is_run(input))
      problems.collect([&] { found = arms_of(input); });
    else
      problems.add(
          fmt::format("{} is no folder of a run: config.json or run.json is missing.", input));
    for (TidySource& source : found) {
      if (options.inputs.size() > 1 && fs::is_directory(input))
        source.arm = name_of(input) + "/" + source.arm;
      const auto [other, is_new] = inputs.emplace(source.arm, input);
      if (!is_new)
        problems.add(fmt::format("{} and {} would both be the arm {}. Rename one of them.",
                                 other->second, input, source.arm));
      sources.push_back(std::move(source));
    }
  }
  problems.raise();
  return sources;
}

int run_export(const ExportArguments& options) {
  const std::vector<TidySource> sources = sources_of(options);
  const int64_t rows = write_tidy_csv(options.csv, sources, options.metrics);
  fmt::print("{} rows of {} arm{}: {}\n", rows, sources.size(), sources.size() == 1 ? "" : "s",
             printable(options.csv));
  return 0;
}

}  // namespace

void add_export(Commands& commands) {
  auto options = std::make_shared<ExportArguments>();
  OptionTable& table =
      add_command(commands, "export", "write the numbers of runs and records as one tidy CSV");
  table
      .add("input", &options->inputs, input_path(),
           "folders of runs, and records that `weir measure --json` wrote")
      .needed();
  table
      .add("--csv", &options->csv, csv_file(),
           fmt::format("the file: a row a number, with the columns {}", kTidyHeader))
      .needed();
  table.add("--metric", &options->metrics, some_text(),
            "only metrics that match, e.g. 'sink_*'; repeatable");
  table.flag("--overwrite", options->overwrite, kOverwriteMeaning);
  table.footer(
      "pandas, Polars and DuckDB read the file without options. step is empty for a record without "
      "one;\nlayer, head and token are, where a metric has none. An arm is that of its run, of a "
      "record the name of\nits file; of several inputs the name of the run stands before it. An "
      "unfinished run is exported as\nfar as it has got.\n\nExamples:\n"
      "  weir export runs/demo --csv demo.csv\n"
      "  weir export runs/demo --csv sinks.csv --metric 'sink_*' --metric loss\n"
      "  weir export one.json other.json --csv both.csv");
  table.action([options] { return run_export(*options); });
}

}  // namespace weir
