// weir demo: an attention sink forms, with V-scale and without.
#include <fmt/format.h>

#include <set>

#include "lab/train/train.h"
#include "support/text.h"
#include "tools/command.h"

namespace weir {
namespace {

struct DemoArguments {
  std::string out = "runs/demo";
  int64_t steps = 1000;
  int threads = 0;
  bool overwrite = false;
};

constexpr int64_t kEvery = 50;

// Sequences as long as the window of the sink score, and many steps: after them nearly every query
// that has nothing to copy looks at the first token (RESULTS.md has scores by seed). Queries
// that copy look elsewhere, so that the score of a perfect sink stays near 0.7.
constexpr const char* kSettings[] = {"length=64", "batch=32"};

// Close together at the start, where the sink forms, then evenly.
std::vector<std::string> steps_to_measure(int64_t steps) {
  std::set<int64_t> chosen = {0, steps};
  for (int64_t step = 1; step < steps; step *= 2) chosen.insert(step);
  for (int64_t step = kEvery; step < steps; step += kEvery) chosen.insert(step);
  std::vector<std::string> texts;
  for (int64_t step : chosen) texts.push_back(fmt::format("{}", step));
  return texts;
}

int run_demo(const DemoArguments& options) {
  std::vector<std::string> words(std::begin(kSettings), std::end(kSettings));
  words.insert(words.end(), {"out=" + options.out, fmt::format("steps={}", options.steps),
                             "model=demo", "arms=baseline; v-scale-full: v_scale.variant=full",
                             "measure.steps=" + join(steps_to_measure(options.steps), ",")});
  RunConfig config = parse_config("", words);
  config.threads = chosen_threads(options.threads);
  fmt::print(
      "Two arms of {} steps: a model of one layer and one head learns Bigram-Backcopy,\n"
      "plainly and with V-scale on its values. Folder: {}\n",
      config.steps, config.out);
  std::fflush(stdout);
  TrainOptions train_options{.target = chosen_target(true), .command = command_line()};
  train_options.made_by = "demo";
  train_options.replaces_own = true;
  train_options.overwrite = options.overwrite;
  return finish_run(config, train(config, train_options));
}

}  // namespace

void add_demo(Commands& commands) {
  auto options = std::make_shared<DemoArguments>();
  OptionTable& table =
      add_command(commands, "demo",
                  "train a small model with and without V-scale and report how its sink forms");
  table
      .add("--out", &options->out, output_folder(),
           "folder of the run; an older demo in it is replaced")
      .with_default();
  table.flag("--overwrite", options->overwrite,
             "replace a run in that folder that is no demo, too");
  table.add("--steps", &options->steps, within(1, 1e6), "optimiser steps of each arm")
      .with_default();
  table.add("--threads", &options->threads, thread_count(), "worker threads; 0 takes all cores")
      .with_default();
  table.footer("Examples:\n  weir demo\n  weir demo --steps 3000 --out runs/longer");
  table.action([options] { return run_demo(*options); });
}

}  // namespace weir
