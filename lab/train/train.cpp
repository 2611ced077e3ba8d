#include "lab/train/train.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "io/file.h"
#include "lab/train/arm_run.h"
#include "lab/train/run_folder.h"
#include "lab/train/run_place.h"
#include "lab/train/signal_watch.h"
#include "support/clock.h"
#include "support/error.h"
#include "support/log.h"
#include "support/usage_error.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

// What further steps of a run that is resumed do to its learning rate.
void say_what_is_raised(const RunConfig& config, const TrainOptions& options) {
  const RunConfig started = config_of_run(config.out);
  if (options.quiet || config.steps == started.steps) return;
  const OptimizerConfig& o = config.optimizer;
  log_info("steps {} instead of {}: the learning rate {}", config.steps, started.steps,
           o.schedule == "constant"
               ? fmt::format("stays {:g}", o.rate)
               : fmt::format("follows a second cosine from {:g} at step {} to {:g} at step {}",
                             learning_rate(o, o.restart, config.steps), o.restart,
                             learning_rate(o, config.steps - 1, config.steps), config.steps - 1));
}

// The arms of a run with their data, which have to be those that it was started with.
std::vector<std::unique_ptr<ArmRun>> make_arms(const RunConfig& config, const TrainOptions& options,
                                               RunFacts& facts) {
  std::vector<std::unique_ptr<ArmRun>> arms;
  Problems problems("train");
  for (const ArmConfig& arm : config.arms) {
    arms.push_back(std::make_unique<ArmRun>(arm.name, with_arm(config, arm), options,
                                            fs::path(config.out) / arm.name));
    if (options.resume) arms.back()->check_config(problems);
    const ArmData now = arms.back()->data();
    ArmData& before = facts.data[arm.name];
    const auto compare = [&](const char* what, const DataFacts& then, const DataFacts& here) {
      if (then.hash != here.hash && !then.what.empty())
        problems.add(fmt::format(
            "the {} of arm {} are not those that the run was started with: {} (hash {}) now, {} "
            "(hash {}) at the start. Give it the files and the tokenizer of then, or start another "
            "run with out=FOLDER.",
            what, arm.name, here.what, here.hash, then.what, then.hash));
    };
    if (options.resume && (before.training.what.empty() ||
                           (before.validation.what.empty() && !now.validation.what.empty())))
      problems.add(fmt::format(
          "{} is damaged: it does not say which data arm {} was started with. Put the file back, "
          "or start another run with out=FOLDER.",
          (fs::path(config.out) / "run.json").string(), arm.name));
    compare("data", before.training, now.training);
    compare("validation data", before.validation, now.validation);
    const DataFacts initial = before.initial;
    before = now;
    before.initial = initial;
  }
  problems.raise();
  return arms;
}

// Checks and compiles all arms that are not complete, which are returned; the first is ready to
// run.
std::vector<std::unique_ptr<ArmRun>> prepared(std::vector<std::unique_ptr<ArmRun>> arms,
                                              const TrainOptions& options, RunFacts& facts) {
  if (options.resume)
    std::erase_if(arms, [](const std::unique_ptr<ArmRun>& arm) { return arm->is_complete(); });
  for (const std::unique_ptr<ArmRun>& arm : arms) {
    arm->check(facts.data[arm->name()].initial);
    facts.data[arm->name()] = arm->data();
  }
  for (size_t i = arms.size(); i-- > 0;) {
    arms[i]->prepare();
    if (i > 0) arms[i]->release();
  }
  return arms;
}

}  // namespace

RunConfig config_of_run(const std::string& folder) {
  const fs::path file = fs::path(folder) / "config.json";
  if (!is_run(folder))
    user_error("train", "there is no run in {}: config.json or run.json is missing.", folder);
  RunConfig config;
  try {
    config = read_run_config(file, "train");
  } catch (const UserError& error) {
    throw UserError(fmt::format("{} {}", error.what(), kPutBack));
  }
  config.out = folder;
  return config;
}

TrainOutcome train(const RunConfig& given, const TrainOptions& options) {
  RunConfig config = given;
  if (config.arms.empty()) config.arms.push_back({"run", {}});
  RunPlace place(config, options);
  const fs::path folder = config.out;
  RunFacts facts{options.command, "", utc_now(), 0};
  if (options.resume) {
    const std::string now = std::move(facts.started);
    facts = read_run_json(folder);
    facts.resumed.emplace_back(now, options.command);
    say_what_is_raised(config, options);
  }
  facts.target = print(options.target);
  std::vector<std::unique_ptr<ArmRun>> arms =
      prepared(make_arms(config, options, facts), options, facts);
  TrainOutcome outcome{0, config.arms.back().name, config.steps};
  if (arms.empty()) return outcome;
  std::optional<SignalWatch> own_signals;
  const SignalWatch& signals = options.signals ? *options.signals : own_signals.emplace();
  place.open(utc_now());
  const double seconds_before = std::exchange(facts.seconds, 0);
  place.manifest().add("report.html");
  write_file(place.manifest().add("config.json").string(), config_json(config) + "\n");
  place.manifest().add("run.json");
  write_run_json(folder, config, facts);
  const auto start = std::chrono::steady_clock::now();
  for (std::unique_ptr<ArmRun>& arm : arms) {
    outcome = arm->run(signals, place.manifest());
    if (outcome.signal != 0) return outcome;
    arm.reset();
  }
  facts.seconds = seconds_before +
                  std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  write_run_json(folder, config, facts);
  return outcome;
}

}  // namespace weir
