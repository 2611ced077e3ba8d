#include "lab/train/arm_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "lab/train/checkpoint.h"
#include "lab/train/config_diff.h"
#include "lab/train/event_log.h"
#include "lab/train/run_folder.h"
#include "support/error.h"
#include "support/log.h"

namespace weir {

namespace fs = std::filesystem;

ArmFiles::ArmFiles(std::string arm, fs::path folder, const RunConfig& config)
    : arm_(std::move(arm)), folder_(std::move(folder)), config_(config) {}

StepLines ArmFiles::lines(const std::string& file, int64_t below) const {
  std::vector<int64_t> wanted;
  if (file == "loss.jsonl") {
    wanted.resize(static_cast<size_t>(std::min(below, config_.steps)));
    std::iota(wanted.begin(), wanted.end(), 0);
  } else if (file == "validation.jsonl" ? config_.data.is_validated() : config_.measure.metrics) {
    for (int64_t step : measured_steps(config_))
      if (step < below) wanted.push_back(step);
  }
  return read_step_lines(folder_ / file, wanted, below,
                         file == "metrics.jsonl" ? is_sound_record : LineCheck());
}

void ArmFiles::check_config(Problems& problems) const {
  const fs::path file = folder_ / "config.json";
  if (!fs::exists(file)) return;
  RunConfig trained;
  try {
    trained = read_run_config(file, "train");
  } catch (const UserError&) {
    return;  // it is written anew
  }
  for (const std::string& difference : differs_from_run(trained, config_))
    problems.add(fmt::format(
        "{} and that of the run in {} contradict each other: {}. Put back the value that the run "
        "was started with, or start another run with out=FOLDER.",
        file.string(), folder_.parent_path().string(), difference));
}

bool ArmFiles::is_complete() const {
  if (!fs::exists(folder_ / "complete") || !fs::exists(folder_ / "config.json")) return false;
  RunConfig done;
  try {
    done = read_run_config(folder_ / "config.json", "train");
  } catch (const UserError& error) {
    log_warning("{} It is written anew.", error.what());
    return false;
  }
  constexpr int64_t all = std::numeric_limits<int64_t>::max();
  const StepLines losses = lines("loss.jsonl", all);
  const StepLines records = lines("metrics.jsonl", all);
  const StepLines validations = lines("validation.jsonl", all);
  return done.steps == config_.steps && !losses.missing && losses.as_written && !records.missing &&
         records.as_written && !step_to_repeat(all) &&
         (!config_.tensorboard || fs::exists(folder_ / EventLog::kName)) &&
         (!config_.data.is_validated() || (!validations.missing && validations.as_written));
}

std::optional<int64_t> ArmFiles::step_to_repeat(int64_t below) const {
  const std::vector<int64_t> measured = measured_steps(config_);
  std::vector<int64_t> done = measured;
  std::erase_if(done, [&](int64_t step) { return step >= below; });
  if (!config_.measure.probes.empty())
    if (const auto step = step_without_probes(folder_, done)) return step;
  if (!done.empty() && done.back() == measured.back() && has_damaged_map(folder_))
    return done.back();
  return std::nullopt;
}

std::optional<fs::path> ArmFiles::newest_sound_checkpoint() const {
  std::vector<fs::path> found = list_checkpoints(checkpoints());
  if (found.empty()) return std::nullopt;
  const int64_t newest = step_of_checkpoint(found.back());
  for (const char* file : {"loss.jsonl", "metrics.jsonl", "validation.jsonl"}) {
    const StepLines there = lines(file, newest);
    if (!there.missing) {
      if (!there.as_written)
        log_warning(
            "{}: {} has lines that are damaged, there twice or of steps that the run has not; it "
            "is put in order",
            arm_, (folder_ / file).string());
      continue;
    }
    while (!found.empty() && step_of_checkpoint(found.back()) > *there.missing) found.pop_back();
    log_warning(
        "{}: {} lacks the line of step {}, though there is a checkpoint of step {}. The steps "
        "are computed again from {}",
        arm_, (folder_ / file).string(), *there.missing, newest,
        found.empty() ? "the start" : found.back().string());
    if (found.empty()) return std::nullopt;
  }
  if (const auto step = step_to_repeat(newest)) {
    while (!found.empty() && step_of_checkpoint(found.back()) > *step) found.pop_back();
    log_warning(
        "{}: the probes or the map of step {} are missing or damaged, though there is a checkpoint "
        "of step {}. The steps are computed again from {}",
        arm_, *step, newest, found.empty() ? "the start" : found.back().string());
    if (found.empty()) return std::nullopt;
  }
  return found.back();
}

}  // namespace weir
