// weir specialize: how attention heads specialise in the single-location model.
#include <fmt/format.h>

#include "io/file.h"
#include "lab/report/specialize_report.h"
#include "lab/specialize/specialize.h"
#include "support/text.h"
#include "tools/command.h"
#include "tools/outputs.h"
#include "tools/paths.h"
#include "tools/standard_output.h"

namespace weir {
namespace {

struct SpecializeArguments {
  std::vector<std::string> words;
  std::string json, report;
  bool keys = false, no_report = false, overwrite = false;
};

std::string report_path(const SpecializeArguments& options) {
  if (!options.report.empty()) return options.report;
  if (options.json.empty() || options.no_report) return "";
  return std::filesystem::path(options.json).replace_extension(".html").string();
}

void print_keys() {
  SpecializeConfig defaults;
  for (const SpecializeKey& key : specialize_keys()) {
    const ValueSlot slot = key.slot(defaults);
    const std::string range = range_text(slot, key.rule);
    fmt::print("{:16} {}{}\n", key.name, key.meaning, range.empty() ? "" : " (" + range + ")");
  }
}

int run_specialize_command(const SpecializeArguments& options, const SpecializeConfig& config) {
  if (options.keys) {
    print_keys();
    return 0;
  }
  const std::string record = run_specialize(config, command_line(), [](const std::string& line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
  });
  fmt::print("\n{}", specialize_table(record));
  if (!options.json.empty()) {
    write_file(options.json, record + "\n");
    fmt::print("Record: {}\n", printable(options.json));
  }
  if (const std::string report = report_path(options); !report.empty()) {
    write_specialize_report(report, record, command_line());
    fmt::print("Report: {}\n",
               printable(std::filesystem::absolute(report).lexically_normal().string()));
  }
  return 0;
}

}  // namespace

void add_specialize(Commands& commands) {
  auto options = std::make_shared<SpecializeArguments>();
  auto config = std::make_shared<SpecializeConfig>();
  OptionTable& table = add_command(commands, "specialize",
                                   "train heads in the single-location model, beside its theory");
  table.add("settings", &options->words, some_text(),
            "a JSON file, key=value, or several of both; --keys lists the keys");
  table.flag("--keys", options->keys, "list the keys and end");
  table.add("--json", &options->json, record_file("weir.specialize"),
            "write the record weir.specialize/1 here");
  Option& report = table.add("--report", &options->report, report_file(),
                             "write the report here; beside --json, as .html, if not given");
  table.flag("--no-report", options->no_report, "write no report beside --json");
  table.flag("--overwrite", options->overwrite, kOverwriteMeaning);
  table.exclude("--no-report", "--report");
  table.check([options, config, &table, &report](UsageProblems& problems) {
    *config = read_specialize(options->words, problems);
    const std::string path = report_path(*options);
    const bool beside = !path.empty() && !table.given("--report");
    if (beside && path == options->json)
      problems.add(
          fmt::format("the report beside --json would be {} itself. Give --report FILE.", path));
    else if (beside && output_problem(options->json, false).empty())
      report.imply("the report", path);
  });
  table.footer(
      "A sample has tokens in many dimensions, one of which carries a signal along hidden "
      "directions; heads find it.\nExperiments: dynamics (SGD on fresh samples over the flow of "
      "the limit), risk (the least risk against\nsignal strength), pruning (heads removed after "
      "training). docs/specialize.md explains them. Examples:\n"
      "  weir specialize strengths=3,2 heads=4 start=random end=60 --json run.json\n"
      "  weir specialize experiment=risk activation=softmax,softmax-1,bayes-softmax heads=2,4\n"
      "  weir specialize examples/experiments/specialize-order.json seeds=5");
  table.action([options, config] { return run_specialize_command(*options, *config); });
}

}  // namespace weir
