#include "lab/sweep/sweep_folder.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <set>
#include <thread>
#include <utility>

#include "io/file.h"
#include "lab/sweep/last_lines.h"
#include "lab/train/arm_files.h"
#include "lab/train/checkpoint.h"
#include "lab/train/run_place.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFailedSchema = "weir.failed_run/1";

// Whether there is something in the folder that a sweep has not put there. Another process may be
// writing the plan.
bool holds_something_else(const fs::path& folder) {
  if (!fs::exists(folder)) return false;
  if (!fs::is_directory(folder)) return true;
  return std::any_of(fs::directory_iterator(folder), fs::directory_iterator(),
                     [](const fs::directory_entry& entry) {
                       return !entry.path().filename().string().starts_with("sweep.json.tmp.");
                     });
}

// Runs that a plan in the folder has and this one has not.
std::vector<std::string> runs_left_out(const fs::path& plan_file, const SweepPlan& plan) {
  const Json there = Json::parse(read_file(plan_file.string()), nullptr, false);
  if (!there.is_object() || !there.contains("entries") || !there["entries"].is_array())
    user_error("sweep",
               "{} is damaged. Put the file back, or remove it: the runs beside it are found again "
               "by their names.",
               plan_file.string());
  std::set<std::string> planned;
  for (const SweepEntry& entry : plan.entries) planned.insert(entry.run);
  std::vector<std::string> left_out;
  for (const Json& entry : there["entries"]) {
    if (!entry.is_object() || planned.contains(entry.value("run", ""))) continue;
    left_out.push_back(fmt::format(
        "{} (arm {}, seed {}{})", entry.value("index", Json()).dump(), entry.value("arm", ""),
        entry.value("seed", Json()).dump(),
        entry.value("grid", Json::object()).empty() ? "" : ", " + entry["grid"].dump()));
  }
  return left_out;
}

// Whether a file is there now: reading its folder asks the server of a shared file system, while
// that a name was not there may be remembered.
bool is_there(const fs::path& file) {
  std::error_code none;
  return std::any_of(
      fs::directory_iterator(file.parent_path(), none), fs::directory_iterator(),
      [&](const fs::directory_entry& entry) { return entry.path().filename() == file.filename(); });
}

std::string utc_text(int64_t seconds) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(seconds)));
}

}  // namespace

std::string status_text(const RunStatus& status, int64_t steps) {
  const auto at = [&] { return fmt::format("step {} of {}", status.step, steps); };
  const ClaimOwner owner = status.claim.owner.value_or(ClaimOwner());
  switch (status.state) {
    case RunState::to_do:
      return "to do";
    case RunState::running:
      return fmt::format("running by {} since {}, {}", owner.text(), utc_text(owner.since), at());
    case RunState::stale:
      return fmt::format("stale: {} gave no sign of life for {:.0f} s, {}", owner.text(),
                         status.claim.silent_seconds, at());
    case RunState::interrupted:
      return "interrupted at " + at();
    case RunState::done:
      return "done";
    case RunState::failed:
      return "failed: " + status.reason;
  }
  internal_error_at("unknown state of a run");
}

SweepFolder::SweepFolder(fs::path folder, int64_t stale_after)
    : folder_(std::move(folder)), claims_(folder_ / "claims", stale_after) {}

void SweepFolder::check(const SweepPlan& plan, bool overwrite) const {
  if (!fs::exists(plan_file())) {
    if (holds_something_else(folder_))
      user_error("sweep", "{} exists and is no sweep. Choose another folder with --out.",
                 folder_.string());
    return;
  }
  if (overwrite) return;
  const std::vector<std::string> left_out = runs_left_out(plan_file(), plan);
  if (left_out.empty()) return;
  const size_t shown = std::min(left_out.size(), kMaxListed);
  std::string names =
      join(std::vector<std::string>(left_out.begin(),
                                    left_out.begin() + static_cast<std::ptrdiff_t>(shown)),
           "; ");
  if (shown < left_out.size()) names += fmt::format("; and {} more", left_out.size() - shown);
  user_error(
      "sweep",
      "{} is another sweep: it has entries which this one lacks, or has with other settings: "
      "{}. Entries may be added. Choose another folder with --out, or put this plan in the "
      "place of that one with --overwrite; runs that are there stay.",
      plan_file().string(), names);
}

void SweepFolder::open(const SweepPlan& plan, bool overwrite) {
  check(plan, overwrite);
  std::error_code failed;
  fs::create_directories(folder_, failed);
  if (failed)
    user_error("sweep", "cannot make the folder {}: {}.", folder_.string(), failed.message());
  const std::string text = sweep_json(plan);
  if (!file_exists(plan_file().string()) || read_file(plan_file().string()) != text)
    write_shared(plan_file(), text);
  claims_.open();
}

void SweepFolder::write_shared(const fs::path& file, const std::string& text) {
  constexpr int tries = 10;
  for (int i = 1;; ++i) {
    try {
      return write_file(file.string(), text);
    } catch (const UserError&) {
      if (file_exists(file.string()) && read_file(file.string()) == text) return;
      if (i == tries) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(20 * i));
    }
  }
}

bool SweepFolder::is_done(const std::string& run) const {
  return is_run(this->run(run)) && is_there(arm(run) / "complete");
}

bool SweepFolder::is_settled(const std::string& run) const {
  return is_done(run) || is_there(failure_file(run));
}

bool SweepFolder::is_whole(const SweepEntry& entry) const {
  return is_done(entry.run) && ArmFiles("run", arm(entry.run), entry.config).is_complete();
}

RunStatus SweepFolder::status(const SweepEntry& entry) const {
  RunStatus status;
  status.claim = claims_.look(entry.run);
  if (status.claim.alive) {
    status.state = RunState::running;
    const auto line = last_line_of(arm(entry.run) / "loss.jsonl");
    if (line && line->contains("step")) status.step = (*line)["step"].get<int64_t>() + 1;
    return status;
  }
  if (is_done(entry.run)) {
    status.state = RunState::done;
    status.step = entry.config.steps;
    return status;
  }
  if (const auto checkpoints = list_checkpoints(arm(entry.run) / "checkpoints");
      !checkpoints.empty())
    status.step = step_of_checkpoint(checkpoints.back());
  if (const auto reason = failure(entry.run)) {
    status.state = RunState::failed;
    status.reason = *reason;
  } else if (status.claim.owner) {
    status.state = RunState::stale;
  } else if (is_run(run(entry.run))) {
    status.state = RunState::interrupted;
  }
  return status;
}

fs::path SweepFolder::failure_file(const std::string& run) const {
  return folder_ / "failed" / (run + ".json");
}

std::optional<std::string> SweepFolder::failure(const std::string& run) const {
  if (is_done(run) || !is_there(failure_file(run))) return std::nullopt;
  const Json json = Json::parse(read_file(failure_file(run).string()), nullptr, false);
  return json.is_object() && json.contains("reason") && json["reason"].is_string()
             ? json["reason"].get<std::string>()
             : "the reason is not known: " + failure_file(run).string() + " is damaged";
}

void SweepFolder::set_failure(const std::string& run, const std::string& reason) const {
  fs::create_directories(failure_file(run).parent_path());
  write_file(failure_file(run).string(),
             Json{{"schema", kFailedSchema}, {"run", run}, {"reason", reason}}.dump(
                 2, ' ', false, Json::error_handler_t::replace) +
                 "\n");
}

void SweepFolder::forget_failure(const std::string& run) const {
  std::error_code none;
  fs::remove(failure_file(run), none);
}

}  // namespace weir
