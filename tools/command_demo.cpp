// weir demo: an attention sink forms, and in a deeper model a large norm, with V-scale and without.
#include <fmt/format.h>

#include <set>
#include <utility>
#include <vector>

#include "lab/train/run_place.h"
#include "lab/train/train.h"
#include "support/text.h"
#include "tools/command.h"

namespace weir {
namespace {

struct DemoArguments {
  std::string out = "runs/demo";
  std::string only = "both";
  int64_t steps = 0;
  int threads = 0;
  bool overwrite = false;
};

constexpr int64_t kEvery = 50;

struct DemoPart {
  const char* name;    ///< of --only
  const char* suffix;  ///< of its folder, behind --out
  int64_t steps;
  const char* text;  ///< what is trained, printed before
  const char* after;
  std::vector<std::string> settings;
};

const std::vector<DemoPart>& demo_parts() {
  static const std::vector<DemoPart> table = {
      // Sequences as long as the window of the sink score, and many steps: after them nearly every
      // query that has nothing to copy looks at the first token (RESULTS.md has scores by seed).
      // Queries that copy look elsewhere, so that the score of a perfect sink stays near 0.7.
      {"sink",
       "",
       1000,
       "The sink: a model of one layer and one head learns Bigram-Backcopy",
       "No attention reads what leaves the one layer, so that no gradient through attention "
       "reaches\n"
       "that norm. In the second experiment later layers read it.",
       {"model=demo"}},
      // The smallest setting found in which the baseline has a sink, R_GS above 5 and a norm ratio
      // above 5 from most seeds (examples/experiments/argument.json; RESULTS.md has its table), and
      // one of these seeds. A narrow MLP cannot choose between copying and the bigram by itself, so
      // that heads have to switch off; the constant rate lets norms go on growing.
      {"norm",
       "-norm",
       3000,
       "The norm: three layers of two heads learn it from rows that are closer together",
       "Compare the norm ratios of the two arms, beside their sink scores and losses. RESULTS.md "
       "has\n"
       "more seeds, further arms and other models.",
       {"seed=1", "model.name=backcopy-3", "model.layers=3", "model.d_model=64", "model.heads=2",
        "model.kv_heads=2", "model.d_ff=16", "model.vocabulary=0", "data.concentration=30",
        "optimizer.rate=0.003", "optimizer.schedule=constant"}},
  };
  return table;
}

// Close together at the start, where the sink forms, then evenly.
std::vector<std::string> steps_to_measure(int64_t steps) {
  std::set<int64_t> chosen = {0, steps};
  for (int64_t step = 1; step < steps; step *= 2) chosen.insert(step);
  for (int64_t step = kEvery; step < steps; step += kEvery) chosen.insert(step);
  std::vector<std::string> texts;
  for (int64_t step : chosen) texts.push_back(fmt::format("{}", step));
  return texts;
}

RunConfig demo_config(const DemoPart& part, const DemoArguments& options) {
  const int64_t steps = options.steps > 0 ? options.steps : part.steps;
  std::vector<std::string> words = part.settings;
  words.insert(words.end(),
               {"length=64", "batch=32", "out=" + options.out + part.suffix,
                fmt::format("steps={}", steps), "arms=baseline; v-scale-full: v_scale.variant=full",
                "measure.steps=" + join(steps_to_measure(steps), ",")});
  RunConfig config = parse_config("", words);
  config.threads = chosen_threads(options.threads);
  return config;
}

int run_demo(const DemoArguments& options) {
  TrainOptions train_options{.target = chosen_target(true), .command = command_line()};
  train_options.made_by = "demo";
  train_options.replaces_own = true;
  train_options.overwrite = options.overwrite;
  std::vector<std::pair<const DemoPart*, RunConfig>> runs;
  for (const DemoPart& part : demo_parts())
    if (options.only == "both" || options.only == part.name)
      runs.emplace_back(&part, demo_config(part, options));
  // That a folder cannot be used is said before the first run, which takes its time.
  for (const auto& [part, config] : runs) RunPlace(config, train_options);
  for (const auto& [part, config] : runs) {
    fmt::print("{},\nplainly and with V-scale on its values, {} steps each. Folder: {}\n",
               part->text, config.steps, config.out);
    std::fflush(stdout);
    const TrainOutcome outcome = train(config, train_options);
    const int status = finish_run(config, outcome);
    if (status != 0 || outcome.signal != 0) return status;
    fmt::print("\n{}\n{}", part->after, part == runs.back().first ? "" : "\n");
  }
  return 0;
}

}  // namespace

void add_demo(Commands& commands) {
  auto options = std::make_shared<DemoArguments>();
  OptionTable& table =
      add_command(commands, "demo",
                  "train small models with and without V-scale and report how sink and norm form");
  table
      .add("--out", &options->out, output_folder(),
           "folder of the first run; that of the second one ends in -norm; older demos in them are "
           "replaced")
      .with_default();
  table
      .add("--only", &options->only, one_of({"both", "sink", "norm"}),
           "which of the two experiments")
      .with_default();
  table.flag("--overwrite", options->overwrite,
             "replace a run in such a folder that is no demo, too");
  table.add("--steps", &options->steps, within(1, 1e6),
            "optimiser steps of each arm (without it 1000 and 3000)");
  table.add("--threads", &options->threads, thread_count(), "worker threads; 0 takes all cores")
      .with_default();
  table.footer("Examples:\n  weir demo\n  weir demo --only norm --out runs/longer --steps 5000");
  table.action([options] { return run_demo(*options); });
}

}  // namespace weir
