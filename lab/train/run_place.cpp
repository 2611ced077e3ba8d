#include "lab/train/run_place.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "io/tokenizer_files.h"
#include "lab/train/checkpoint.h"
#include "lab/train/config_diff.h"
#include "support/error.h"
#include "support/log.h"
#include "support/text.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

// Whether there is something in the folder besides a lock.
bool holds_anything(const fs::path& folder) {
  if (!fs::exists(folder)) return false;
  if (!fs::is_directory(folder)) return true;
  return std::any_of(
      fs::directory_iterator(folder), fs::directory_iterator(),
      [](const fs::directory_entry& entry) { return entry.path().filename() != RunLock::kName; });
}

// Whether a run with these arms would write a file of this name, or read it when it is resumed.
bool is_name_of_run(const fs::path& name, const std::vector<ArmConfig>& arms) {
  static const std::set<std::string> of_run = {"config.json", "run.json", "report.html"};
  static const std::set<std::string> of_arm = {
      "config.json",  "loss.jsonl",      "metrics.jsonl", "validation.jsonl", "complete",
      "profile.json", "not_finite.json", "maps.json",     "checkpoints",      "probes"};
  static const std::set<std::string> of_checkpoint = {"model.safetensors", "optimizer.safetensors",
                                                      "state.json"};
  std::vector<std::string> parts;
  for (const fs::path& part : name) parts.push_back(part.string());
  if (parts.size() == 1 && of_run.contains(parts[0])) return true;
  if (std::none_of(arms.begin(), arms.end(),
                   [&](const ArmConfig& arm) { return arm.name == parts[0]; }))
    return false;
  if (parts.size() == 1) return true;
  if (parts.size() == 2) return of_arm.contains(parts[1]);
  if (parts[1] == "probes") return parts[2].starts_with("step");
  return parts[1] == "checkpoints" && step_of_checkpoint(parts[2]) >= 0 &&
         (parts.size() == 3 || (parts.size() == 4 && of_checkpoint.contains(parts[3])));
}

std::string shown_names(const std::vector<std::string>& names) {
  const size_t shown = std::min(names.size(), kMaxListed);
  std::string text = join(
      std::vector<std::string>(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown)),
      ", ");
  if (shown < names.size()) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

}  // namespace

namespace {

// By whatever name or link.
bool is_inside(const fs::path& path, const fs::path& folder) {
  std::error_code ignored;
  const fs::path whole = fs::weakly_canonical(path, ignored);
  const fs::path outer = fs::weakly_canonical(folder, ignored);
  return std::mismatch(outer.begin(), outer.end(), whole.begin(), whole.end()).first == outer.end();
}

}  // namespace

bool is_run(const fs::path& folder) {
  return fs::exists(folder / "config.json") && fs::exists(folder / "run.json");
}

RunPlace::RunPlace(const RunConfig& config, const TrainOptions& options)
    : config_(config), options_(options), folder_(config.out) {
  if (is_run(folder_) || fs::exists(folder_ / Manifest::kName))
    lock_.emplace(folder_, options.command);
  check();
}

void RunPlace::check() const {
  const bool has_run = is_run(folder_);
  const Manifest manifest = Manifest::read(folder_);
  if (!has_run && !manifest.exists() && holds_anything(folder_))
    user_error("train", "{} exists and is no run. Choose another folder with out=FOLDER.",
               folder_.string());
  if (options_.resume) {
    if (!has_run)
      user_error("train", "there is no run in {} to resume. Leave out --resume to start one.",
                 folder_.string());
    return check_same_config(config_of_run(config_.out), config_);
  }
  const bool same_kind = options_.replaces_own && manifest.made_by() == options_.made_by;
  if (has_run && !options_.overwrite && !same_kind) {
    if (options_.replaces_own)
      user_error(options_.made_by,
                 "there is a run in {} that is no {}. Choose another folder with --out, or replace "
                 "it with --overwrite.",
                 folder_.string(), options_.made_by);
    user_error("train",
               "there is a run in {} already. Continue it with --resume, replace it with "
               "--overwrite, or choose another folder with out=FOLDER.",
               folder_.string());
  }
  if (has_run) keep_inputs(manifest);
  if (has_run && !manifest.exists())
    user_error(options_.made_by,
               "the run in {} has no {}, so it is not known which of the files are Weir's and may "
               "be removed. Remove the folder, or choose another one.",
               folder_.string(), Manifest::kName);
  std::vector<std::string> in_the_way = manifest.unlisted();
  std::erase_if(in_the_way,
                [&](const std::string& name) { return !is_name_of_run(name, config_.arms); });
  if (!in_the_way.empty())
    user_error(options_.made_by,
               "the run needs names in {} that files have which Weir did not write: {}. Move them "
               "elsewhere, or choose another folder.",
               folder_.string(), shown_names(in_the_way));
}

void RunPlace::keep_inputs(const Manifest& manifest) const {
  const auto refuse = [&](const char* key, const std::string& path) {
    user_error(options_.made_by,
               "{}={} is in the folder of the run that would be replaced. Choose another folder "
               "with out=FOLDER.",
               key, path);
  };
  const auto keep_weights = [&](const std::string& init) {
    if (!init.empty() && is_inside(init, folder_)) refuse("init", init);
  };
  // A tokenizer that Weir did not write stays.
  const std::vector<std::string> others = manifest.unlisted();
  const auto keep_tokenizer = [&](const DataConfig& data) {
    if (data.kind != "text" || data.tokenizer == "bytes" || !is_inside(data.tokenizer, folder_))
      return;
    std::error_code ignored;
    const fs::path file =
        fs::weakly_canonical(tokenizer_path(data.tokenizer).value_or(""), ignored);
    const std::string name =
        file.lexically_relative(fs::weakly_canonical(folder_, ignored)).generic_string();
    if (std::find(others.begin(), others.end(), name) == others.end())
      refuse("data.tokenizer", data.tokenizer);
  };
  keep_weights(config_.init);
  for (const ArmConfig& arm : config_.arms) {
    const RunConfig config = with_arm(config_, arm);
    keep_weights(config.init);
    keep_tokenizer(config.data);
  }
}

Manifest& RunPlace::manifest() {
  WEIR_CHECK(manifest_, "the folder of the run is not open");
  return *manifest_;
}

void RunPlace::open(const std::string& started) {
  std::error_code failed;
  fs::create_directories(folder_, failed);
  if (failed)
    user_error("train", "cannot make the folder {}: {}.", folder_.string(), failed.message());
  if (!lock_) {
    lock_.emplace(folder_, options_.command);
    check();  // another process may have been here meanwhile
  }
  Manifest old = Manifest::read(folder_);
  for (const std::string& name : old.folders())
    if (fs::path(name).filename() == "checkpoints") remove_leftovers(folder_ / name);
  if (options_.resume) {
    const bool lost = !old.exists();
    manifest_ = lost ? Manifest::create(folder_, options_.made_by, started, true) : std::move(old);
    manifest_->set_made_by(options_.made_by);
    return;
  }
  const std::vector<std::string> others = old.unlisted();
  old.remove_files("run.json");
  manifest_ = Manifest::create(folder_, options_.made_by, started);
  if (!others.empty() && !options_.quiet)
    log_info("{}: Weir did not write these files, they stay: {}", folder_.string(),
             shown_names(others));
}

}  // namespace weir
