// weir specialize: how attention heads specialise in the single-location model.
#include <fmt/format.h>

#include "lab/report/specialize_report.h"
#include "lab/specialize/specialize.h"
#include "support/text.h"
#include "tools/command.h"
#include "tools/paths.h"
#include "tools/record_outputs.h"
#include "tools/standard_output.h"

namespace weir {
namespace {

struct SpecializeArguments {
  RecordOutputs outputs;
  std::vector<std::string> words;
  bool keys = false;
};

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
  options.outputs.write_record(record);
  options.outputs.write_report(
      [&](const std::string& path) { write_specialize_report(path, record, command_line()); });
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
  options->outputs.add_json(table, "weir.specialize");
  options->outputs.add_report(table);
  table.check([options, config, &table](UsageProblems& problems) {
    *config = read_specialize(options->words, problems);
    if (options->words.empty() && !options->keys)
      problems.add("nothing says what to do. Give a JSON file, or settings such as strengths=3,2.");
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
