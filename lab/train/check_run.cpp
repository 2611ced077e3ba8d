#include "lab/train/check_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "lab/train/arm_files.h"
#include "lab/train/run_folder.h"
#include "support/error.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

// What the folder of an arm lacks, each as a sentence.
void check_arm(const fs::path& run, const std::string& name, Problems& problems) {
  const fs::path arm = run / name;
  if (!fs::exists(arm / "config.json") || !fs::exists(arm / "loss.jsonl")) return;  // not begun
  RunConfig config;
  try {
    config = read_run_config(arm / "config.json", "report");
  } catch (const UserError& error) {
    const std::string_view message = error.what();
    problems.add(fmt::format("{} `weir train resume={}` writes it anew.",
                             message.substr(message.find("] ") + 2), run.string()));
    return;
  }
  const ArmFiles files(name, arm, config);
  const bool complete = fs::exists(arm / "complete");
  const auto check = [&](const char* file, int64_t below) {
    const StepLines lines = files.lines(file, std::numeric_limits<int64_t>::max());
    if (lines.missing && *lines.missing < std::max(below, lines.last + 1))
      problems.add(fmt::format(
          "{} lacks the line of step {}. `weir train resume={}` computes again what is missing.",
          (arm / file).string(), *lines.missing, run.string()));
    else if (!lines.as_written)
      problems.add(fmt::format(
          "{} has lines that are damaged, there twice or of steps that the run has not. `weir "
          "train resume={}` puts it in order.",
          (arm / file).string(), run.string()));
    return lines.last + 1;
  };
  // Which steps an unfinished run has done, its losses say; the last may be killed between its
  // lines.
  const int64_t losses = check("loss.jsonl", complete ? config.steps : 0);
  const int64_t done = complete ? config.steps + 1 : losses - 1;
  if (config.measure.metrics) check("metrics.jsonl", done);
  if (config.data.is_validated()) check("validation.jsonl", done);
  std::vector<int64_t> measured = measured_steps(config);
  std::erase_if(measured, [&](int64_t step) { return step >= done; });
  const auto damaged = [&](const fs::path& file, const char* what) {
    problems.add(fmt::format("{} is {}. `weir train resume={}` computes it again.",
                             (arm / file).string(), what, run.string()));
  };
  if (!config.measure.probes.empty())
    if (const auto step = step_without_probes(arm, measured))
      damaged(probes_of_step(*step), "missing, empty or cut off");
  if (has_damaged_map(arm))
    damaged("maps.json", fs::exists(arm / "maps.json") ? "damaged" : "missing");
}

}  // namespace

void check_run(const fs::path& run) {
  RunConfig config;
  try {
    config = read_run_config(run / "config.json", "report");
  } catch (const UserError& error) {
    throw UserError(fmt::format("{} {}", error.what(), kPutBack));
  }
  if (config.arms.empty()) config.arms.push_back({"run", {}});
  const RunFacts facts = read_run_json(run, "report");
  Problems problems("report");
  for (const ArmConfig& arm : config.arms) {
    if (!facts.data.contains(arm.name))
      problems.add(fmt::format(
          "{} is damaged: arm {} is missing from it. Put the file back, or start another run with "
          "out=FOLDER.",
          (run / "run.json").string(), arm.name));
    ArmFiles(arm.name, run / arm.name, with_arm(config, arm)).check_config(problems);
    check_arm(run, arm.name, problems);
  }
  problems.raise();
}

}  // namespace weir
