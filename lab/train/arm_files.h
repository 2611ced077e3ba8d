#pragma once
// What an earlier process has left of an arm: lines by step, and checkpoints.
#include <filesystem>
#include <optional>
#include <string>

#include "lab/train/config.h"
#include "lab/train/step_lines.h"
#include "support/error.h"

namespace weir {

class ArmFiles {
 public:
  /// `config`: of the arm.
  ArmFiles(std::string arm, std::filesystem::path folder, const RunConfig& config);

  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path checkpoints() const { return folder_ / "checkpoints"; }
  /// The lines of loss.jsonl, metrics.jsonl or validation.jsonl below a step that are there, and
  /// whether one that the arm should have is missing.
  StepLines lines(const std::string& file, int64_t below) const;
  /// Adds what the configuration in the arm's folder, if there is a sound one, has otherwise.
  void check_config(Problems& problems) const;
  /// Whether the arm has been brought to its end, and all its lines are there.
  bool is_complete() const;
  /// The newest checkpoint whose steps all have their lines, none if there is none. Warns of what
  /// is damaged or missing.
  std::optional<std::filesystem::path> newest_sound_checkpoint() const;

 private:
  /// The first measured step below a bound whose probes, or whose map, have to be made again.
  std::optional<int64_t> step_to_repeat(int64_t below) const;

  std::string arm_;
  std::filesystem::path folder_;
  RunConfig config_;
};

}  // namespace weir
