// weir heads: redundancy of a model's attention heads.
#include <fmt/format.h>

#include "lab/experiments/heads.h"
#include "lab/report/heads_report.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "tools/experiment_model.h"
#include "tools/paths.h"
#include "tools/record_outputs.h"
#include "tools/standard_output.h"

namespace weir {
namespace {

// Of more heads than this the curve is not exact and not whole if nothing is said.
constexpr int64_t kFewHeads = 64, kSomeHeads = 32, kSomeCandidates = 8;

struct HeadsArguments {
  RecordOutputs outputs;
  ExperimentOptions experiment;
  std::string ablation = "both";
  int64_t prune = -1, candidates = -1;
  bool no_similarity = false;

  HeadsArguments() { experiment.prefers_held_out = true; }
};

std::vector<Ablation> ablations_of(const std::string& name) {
  if (name == ablation_name(Ablation::zero)) return {Ablation::zero};
  if (name == ablation_name(Ablation::mean)) return {Ablation::mean};
  return {Ablation::zero, Ablation::mean};
}

void check_options(const HeadsArguments& options, const OptionTable& table,
                   UsageProblems& problems) {
  options.experiment.check(table, problems);
  if (options.prune == 0 && table.given("--candidates"))
    problems.add("--candidates is of the pruning curve, which --prune 0 leaves out.");
}

void print_heads_costs(const HeadsExperiment& heads, const HeadsResult& result) {
  fmt::print("load {:.2f} s, heads {:.1f} s, curve {:.1f} s; {} losses without a head",
             result.load_seconds, result.run_seconds, result.prune_seconds, result.evaluations);
  if (!heads.task().run.interpret)
    fmt::print("; memory {} used of {} stated",
               human_bytes(static_cast<double>(peak_resident_memory())),
               human_bytes(static_cast<double>(heads.memory().total())));
  fmt::print("\n");
}

HeadsTask task_of(const HeadsArguments& options, const Experiment& experiment) {
  const int64_t all = experiment.source.sizes.layers * experiment.source.sizes.heads;
  HeadsTask task{.ablations = ablations_of(options.ablation),
                 .prune = options.prune,
                 .candidates = options.candidates,
                 .similarity = !options.no_similarity,
                 .options = experiment.options,
                 .run = options.experiment.checkpoint.run_settings(),
                 .provenance = experiment.provenance};
  if (task.prune < 0) task.prune = all <= kFewHeads ? all : kSomeHeads;
  if (task.candidates < 0) task.candidates = all <= kFewHeads ? 0 : kSomeCandidates;
  return task;
}

int run_heads(const HeadsArguments& options) {
  const Experiment experiment = Experiment::open(
      "heads", options.experiment,
      [&](const MeasuredModel& sizes, int64_t, UsageProblems& problems) {
        const int64_t all = sizes.layers * sizes.heads;
        if (options.prune > all)
          problems.add(fmt::format("--prune is {}, but the model has {} layers of {} heads: {}.",
                                   options.prune, sizes.layers, sizes.heads, all));
      });
  HeadsExperiment heads(experiment.source, experiment.batch, task_of(options, experiment));
  print_experiment_plan(heads, heads.task().run.interpret, experiment.batch.batch);
  HeadsResult result = heads.measure();
  const auto record_now = [&] {
    return heads_record(experiment.source.sizes, experiment.batch, heads.task(), result);
  };
  const auto write = [&] { options.outputs.write_record(record_now(), /*tells=*/false); };
  write();  // what there is, should the curve be interrupted
  heads.prune(result, [&](const PrunedHead&) { write(); });
  int status = finite_status(heads.not_finite(), "heads");
  const std::string record = record_now();
  fmt::print("\n{}", heads_table(record));
  print_heads_costs(heads, result);
  options.outputs.write_record(record);
  options.outputs.write_report(
      [&](const std::string& path) { write_heads_report(path, record, command_line()); });
  for (const std::string& wrong : wrong_sums(result)) {
    print_error("[heads] " + wrong);
    status = 1;
  }
  return status;
}

}  // namespace

void add_heads(Commands& commands) {
  auto options = std::make_shared<HeadsArguments>();
  OptionTable& table = add_command(
      commands, "heads", "how alike a checkpoint's heads are, and its loss without each of them");
  options->experiment.add_to(table);
  table
      .add("--ablation", &options->ablation, one_of({"zero", "mean", "both"}),
           "what a head's z becomes: 0, or its mean over the tokens measured")
      .with_default();
  table.add("--prune", &options->prune, within(0, 1 << 20),
            "heads that are removed one after the other; all of at most 64, else 32, if not given");
  table.add("--candidates", &options->candidates, within(0, 1 << 20),
            "heads tried at each step of it, chosen by a first-order estimate; 0: all that are "
            "left; 0 for at most 64 heads, else 8, if not given");
  table.flag("--no-similarity", options->no_similarity, "compare no maps and outputs of heads");
  options->outputs.add_json(table, "weir.heads",
                            ", before the pruning curve begins and at each step");
  options->outputs.add_report(table);
  table.check(
      [options, &table](UsageProblems& problems) { check_options(*options, table, problems); });
  table.footer(
      "A head is removed where the output projection reads it, behind any gate; other heads stay. "
      "The curve\nremoves by zero ablation unless --ablation is mean. docs/heads.md has the "
      "definitions. Examples:\n"
      "  weir heads --model SmolLM2-135M/ --text book.txt --json heads.json\n"
      "  weir heads --model model.gguf --text book.txt --ablation mean --prune 64 --candidates 16\n"
      "  weir heads --model SmolLM2-135M/ --text book.txt --attention softmax-1 --prune 0\n"
      "  weir heads --model runs/demo/baseline/checkpoints/step000500 --batch 32");
  table.action([options] { return run_heads(*options); });
}

}  // namespace weir
