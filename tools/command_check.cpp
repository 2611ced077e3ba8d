// weir check: whether the identities and bounds of gradients hold on a model.
#include <fmt/format.h>

#include "io/file.h"
#include "lab/experiments/check.h"
#include "lab/report/check_report.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "tools/experiment_model.h"
#include "tools/outputs.h"
#include "tools/standard_output.h"

namespace weir {
namespace {

struct CheckArguments {
  ExperimentOptions experiment;
  int64_t sink = 0;
  std::string json, report;
  bool overwrite = false;
};

int run_check(const CheckArguments& options) {
  const Experiment experiment = Experiment::open(
      "check", options.experiment,
      [&](const MeasuredModel&, int64_t length, UsageProblems& problems) {
        if (options.sink >= length)
          problems.add(fmt::format("--sink-token is {}, but a sequence has the tokens 0 to {}.",
                                   options.sink, length - 1));
      });
  const TokenBatch& batch = experiment.batch;
  const CheckTask task{.options = experiment.options,
                       .run = options.experiment.checkpoint.run_settings(),
                       .sink = options.sink,
                       .provenance = experiment.provenance};
  CheckOutcome outcome;
  int not_finite = 0;
  {
    Checker checker(experiment.source, batch, task);
    print_plan(checker.run());
    outcome = checker.check();
    fmt::print("\n{}", check_table(outcome.record));
    print_costs(checker.run(), outcome.load_seconds, outcome.run_seconds,
                batch.batch * batch.length);
    not_finite = finite_status(checker.run().not_finite(), "check");
  }
  if (!options.json.empty()) {
    write_file(options.json, outcome.record + "\n");
    fmt::print("Record: {}\n", printable(options.json));
  }
  if (!options.report.empty()) {
    write_check_report(options.report, outcome.record, command_line());
    fmt::print("Report: {}\n", printable(options.report));
  }
  for (const std::string& failure : outcome.failures) print_error("[check] " + failure);
  return outcome.failures.empty() ? not_finite : 1;
}

}  // namespace

void add_check(Commands& commands) {
  auto options = std::make_shared<CheckArguments>();
  OptionTable& table = add_command(
      commands, "check", "check identities and bounds of gradients on a model, by layer and head");
  options->experiment.add_to(table);
  table
      .add("--sink-token", &options->sink, within(0, kMaxLength),
           "key of the bounds from mean and noise")
      .with_default();
  table.add("--json", &options->json, record_file("weir.check"),
            "write the record weir.check/1 here");
  table.add("--report", &options->report, report_file(), "write the report here");
  table.flag("--overwrite", options->overwrite, kOverwriteMeaning);
  table.check(
      [options, &table](UsageProblems& problems) { options->experiment.check(table, problems); });
  table.footer(
      "An exact identity holds if the error is at most 1e-5 of the scale of rounding errors, 1e-10 "
      "with\n--interpret; what fails is named by layer, head and token, and the exit status is 1. "
      "docs/check.md lists\nthe identities. Examples:\n"
      "  weir check --model SmolLM2-135M/ --text book.txt --json check.json --report check.html\n"
      "  weir check --model runs/demo/baseline/checkpoints/step000500      # on the run's own "
      "data\n"
      "  weir check --model runs/demo/baseline/config.json --interpret     # at its "
      "initialisation\n"
      "  weir check --model SmolLM2-135M/ --text book.txt --attention softmax-1 --v-scale full");
  table.action([options] { return run_check(*options); });
}

}  // namespace weir
