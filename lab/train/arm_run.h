#pragma once
// One arm of a run, from its start or newest checkpoint to its end.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/finite_check.h"
#include "lab/measure/progress.h"
#include "lab/measure/record_values.h"
#include "lab/train/arm_files.h"
#include "lab/train/data.h"
#include "lab/train/event_log.h"
#include "lab/train/manifest.h"
#include "lab/train/run_folder.h"
#include "lab/train/signal_watch.h"
#include "lab/train/step_profile.h"
#include "lab/train/train.h"
#include "lab/train/trainer.h"
#include "support/log.h"

namespace weir {

class ArmRun {
 public:
  /// User errors: those of the data.
  ArmRun(const std::string& name, const RunConfig& config, const TrainOptions& options,
         const std::filesystem::path& folder);

  const std::string& name() const { return name_; }
  /// What the arm is trained on. Its initial weights are known once they are checked.
  ArmData data() const;
  /// Whether an earlier run brought the arm to its end, and all its lines are there.
  bool is_complete() const { return files_.is_complete(); }

  /// Adds what the configuration in the arm's folder has otherwise.
  void check_config(Problems& problems) const { files_.check_config(problems); }
  /// Everything that can be wrong with the model, its initial weights and the probes, before
  /// anything is written. `before`: the initial weights that the run was started with.
  void check(const DataFacts& before);
  /// Compiles; nothing is written yet.
  void prepare();
  /// Gives back what prepare() took; the object cache makes doing it again cheap.
  void release() { trainer_.reset(); }
  /// Trains to the end, or to the step at which a signal has come.
  TrainOutcome run(const SignalWatch& signals, Manifest& manifest);

 private:
  void check_initial_weights(const std::vector<Parameter>& parameters);
  bool is_measured(int64_t step) const;
  CompileSettings compile_settings() const;
  void announce() const;

  /// A file of the arm that is about to be written.
  std::filesystem::path written(const std::filesystem::path& name);
  /// The state at the newest checkpoint, or the initial one; returns the next step.
  int64_t begin();
  /// Opens the files of lines, and that of events, with what there is below a step.
  void open_lines(int64_t start);
  void flush();
  void save(int64_t step);
  /// Of the steps since the run was started or resumed.
  void write_profile();

  void one_step(int64_t step, std::optional<Progress>& progress);
  /// Of the state before update `step`, on measured steps.
  std::optional<ValidationResult> validate(int64_t step);
  RecordValues new_values() const;
  void record(int64_t step, double loss, RecordValues& values);
  void write_last_map(int64_t step, const Tensors& values);
  /// Every kernel's results are looked at from now on.
  void watch_for_not_finite();
  /// What is not finite first in a step that has left the state as it was.
  std::string first_not_finite(int64_t step);
  /// A step with a loss or gradients that are not finite has left the state as it was; the run
  /// stops there with a checkpoint, or goes on.
  void check_finite(int64_t step, const StepResult& result);

  template <typename... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) const {
    if (!options_.quiet)
      log_info("{}: {}", name_, fmt::format(format, std::forward<Args>(args)...));
  }

  std::string name_;
  const TrainOptions& options_;
  RunData data_;
  RunConfig config_;
  ArmFiles files_;  ///< as they are before the arm runs
  std::vector<int64_t> measured_;
  std::unique_ptr<Trainer> trainer_;
  Manifest* manifest_ = nullptr;
  std::unique_ptr<JsonLines> losses_, metrics_, validations_;
  std::unique_ptr<EventLog> events_;
  int64_t validation_sequences_ = 0, validation_targets_ = 0;
  std::optional<StepProfile> profile_;
  std::optional<FiniteCheck> finite_;
  std::optional<std::filesystem::path> from_;  ///< the checkpoint that a resumed arm goes on from
  DataFacts initial_;                          ///< the weights of init=
  bool warned_ = false;
};

}  // namespace weir
