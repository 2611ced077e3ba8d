// weir compare: arms over seeds, from the folders of runs and sweeps.
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

#include "io/file.h"
#include "lab/report/compare.h"
#include "support/text.h"
#include "tools/command.h"
#include "tools/onset_options.h"
#include "tools/outputs.h"
#include "tools/paths.h"
#include "tools/record_outputs.h"

namespace weir {
namespace {

constexpr const char* kLowestLoss = "lowest";

struct CompareArguments {
  RecordOutputs outputs;
  std::vector<std::string> folders;
  CompareOptions options;
  std::string loss = kLowestLoss, csv;
};

bool is_loss(const std::string& text) {
  if (text == kLowestLoss) return true;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return !text.empty() && *end == '\0' && std::isfinite(value);
}

int run_compare(const CompareArguments& arguments) {
  CompareOptions options = arguments.options;
  if (arguments.loss != kLowestLoss) options.loss = std::strtod(arguments.loss.c_str(), nullptr);
  options.command = command_line();
  const std::string record = compare_record(arguments.folders, options);
  fmt::print("{}", compare_table(record));
  arguments.outputs.write_record(record);
  if (!arguments.csv.empty()) {
    write_file(arguments.csv, compare_csv(record));
    fmt::print("Table: {}\n", printable(arguments.csv));
  }
  arguments.outputs.write_report(
      [&](const std::string& path) { write_compare_report(path, record); });
  return 0;
}

}  // namespace

void add_compare(Commands& commands) {
  auto arguments = std::make_shared<CompareArguments>();
  OptionTable& table =
      add_command(commands, "compare", "compare arms over seeds, from folders of runs and sweeps");
  table.add("folder", &arguments->folders, input_path(), "folders of runs or sweeps").needed();
  table
      .add("--loss", &arguments->loss, of_form("a number of nats, or lowest", is_loss),
           "where arms are compared at equal loss; lowest: the lowest that all replicates reach")
      .with_default();
  BootstrapSettings& bootstrap = arguments->options.bootstrap;
  table
      .add("--confidence", &bootstrap.confidence, within(0.5, 0.9999),
           "of the interval of a difference")
      .with_default();
  table
      .add("--resamples", &bootstrap.resamples, within(100, 1e7),
           "resamples of the pairs of seeds that the interval is made of")
      .with_default();
  table.add("--seed", &bootstrap.seed, within(0, 9e15), "of the resamples").with_default();
  add_onset_options(table, arguments->options.onset);
  arguments->outputs.add_json(table, "weir.compare");
  table.add("--csv", &arguments->csv, compare_csv_file(),
            "write every number as a table here, one a row");
  arguments->outputs.add_report(table);
  table.footer(
      "Everything is computed from the metrics.jsonl of arms. Seeds of an arm are its replicates; "
      "differences\nto the first arm are taken seed by seed. What is not finished or not "
      "comparable "
      "is named. docs/compare.md\nexplains the numbers. Examples:\n"
      "  weir compare runs/seed1 runs/seed2 runs/seed3\n"
      "  weir compare runs/sweep --json compare.json --csv compare.csv\n"
      "  weir compare runs/sweep --loss 1.45 --onset-gradient 10 --report compare.html");
  table.action([arguments] { return run_compare(*arguments); });
}

}  // namespace weir
