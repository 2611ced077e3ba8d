#include "lab/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <memory>
#include <optional>

#include "codegen/object_cache.h"
#include "codegen/profile.h"
#include "io/file.h"
#include "lab/config_diff.h"
#include "lab/data.h"
#include "lab/memory.h"
#include "lab/profile_json.h"
#include "lab/progress.h"
#include "lab/record_values.h"
#include "lab/run_folder.h"
#include "lab/trainer.h"
#include "models/hugging_face_config.h"
#include "support/error.h"
#include "support/log.h"
#include "support/text.h"
#include "support/usage_error.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

volatile std::sig_atomic_t received_signal = 0;
extern "C" void remember_signal(int signal) { received_signal = signal; }

// While it lives, the first Ctrl-C or SIGTERM is remembered; a second one ends the process.
class SignalWatch {
 public:
  SignalWatch() {
    received_signal = 0;
    struct sigaction action = {};
    action.sa_handler = remember_signal;
    action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
    sigaction(SIGINT, &action, &interrupt_);
    sigaction(SIGTERM, &action, &terminate_);
  }
  ~SignalWatch() {
    sigaction(SIGINT, &interrupt_, nullptr);
    sigaction(SIGTERM, &terminate_, nullptr);
  }
  int signal() const { return received_signal; }

 private:
  struct sigaction interrupt_ = {}, terminate_ = {};
};

// Where the time of an arm's steps goes, beside the rates of the machine at its start.
class StepProfile {
 public:
  StepProfile(const Target& target, Trainer& trainer)
      : kernels_(trainer.programs()), facts_(measured_facts(target, trainer.threads())) {
    trainer.set_profile(kernels_.sink());
  }
  void count(double seconds) {
    facts_.steps += 1;
    facts_.step_seconds += seconds;
  }
  std::string json(const std::string& arm) {
    facts_.what = arm;
    return profile_json(kernels_.times(), facts_);
  }

 private:
  KernelProfile kernels_;
  ProfileFacts facts_;
};

// Of the model that a configuration describes, without building it.
int64_t llama_parameters(const ModelConfig& given) {
  const ModelConfig c = resolved(given);
  const int64_t attention = c.d_model * c.d_head * 2 * (c.heads + c.kv_heads);
  const int64_t block = 2 * c.d_model + attention + 3 * c.d_model * c.d_ff;
  return (c.tied ? 1 : 2) * c.vocabulary * c.d_model + c.layers * block + c.d_model;
}

// One arm from its start or newest checkpoint to its end.
class ArmRun {
 public:
  ArmRun(const std::string& name, const RunConfig& config, const TrainOptions& options,
         const fs::path& folder)
      : name_(name),
        options_(options),
        folder_(folder),
        source_(make_batches(config.data, config.seed)),
        config_(resolve_vocabulary(config, *source_)),
        measured_(measured_steps(config_)) {}

  // Everything that can be wrong with the model and the probes, before anything is written.
  void check() const {
    check_state_memory();
    const Activity activity(name_ + ": planning");
    make_training_graphs(config_, options_.target, !measured_.empty());
  }

  // Whether an earlier run brought the arm to its end.
  bool is_complete() const { return fs::exists(folder_ / "complete"); }

  // Compiles; nothing is written yet.
  void prepare() {
    if (trainer_) return;
    CompileSettings settings{.target = options_.target, .cache = default_object_cache()};
    {
      const Activity activity(name_ + ": planning and compiling");
      trainer_ = std::make_unique<Trainer>(config_, *source_, settings, !measured_.empty());
    }
    announce();
  }

  TrainOutcome run(const SignalWatch& signals) {
    prepare();
    fs::create_directories(folder_);
    write_file((folder_ / "config.json").string(), config_json(config_) + "\n");
    const int64_t start = begin();
    losses_ = std::make_unique<JsonLines>(folder_ / "loss.jsonl", start);
    metrics_ = std::make_unique<JsonLines>(folder_ / "metrics.jsonl", start);
    if (options_.profile) profile_.emplace(options_.target, *trainer_);
    std::optional<Progress> progress;
    if (!options_.quiet) progress.emplace(name_, start, config_.steps);
    for (int64_t step = start; step < config_.steps; ++step) {
      if (signals.signal() != 0) {
        save(step);
        write_profile();
        return {signals.signal(), name_, step};
      }
      one_step(step, progress);
      const int64_t done = step + 1, every = config_.checkpoint_every;
      if (every > 0 && done % every == 0 && done < config_.steps) save(done);
      if (options_.on_step) options_.on_step(name_, done);
    }
    if (start < config_.steps || !fs::exists(checkpoints() / checkpoint_name(config_.steps)))
      save(config_.steps);
    write_profile();
    if (is_measured(config_.steps)) {
      RecordValues values = new_values();
      const StepResult result =
          trainer_->measure(config_.steps, [&](const ProbeValue& value) { values.add(value); });
      record(config_.steps, result.loss, values);
    }
    metrics_->flush();
    write_file((folder_ / "complete").string(), "");
    return {0, name_, config_.steps};
  }

 private:
  // Weights and optimizer state are there whatever the plan is; a model beyond that is not planned,
  // which would take long.
  void check_state_memory() const {
    const int64_t parameters = llama_parameters(config_.model);
    const int64_t tensors = config_.optimizer.kind == "adamw" ? 3 : 2;
    const double bytes = static_cast<double>(tensors * parameters) * sizeof(float);
    const int64_t limit =
        config_.memory.empty() ? free_memory() : known(parse_bytes(config_.memory));
    if (bytes > static_cast<double>(limit))
      user_error(
          "train",
          "the model of arm {} has {} parameters: weights and optimizer state alone take {}, "
          "but only {} may be used. Take smaller sizes (model.*), or allow more (memory=).",
          name_, parameters, human_bytes(bytes), human_bytes(static_cast<double>(limit)));
  }

  fs::path checkpoints() const { return folder_ / "checkpoints"; }
  bool is_measured(int64_t step) const {
    return (config_.measure.metrics || !config_.measure.probes.empty()) &&
           std::binary_search(measured_.begin(), measured_.end(), step);
  }

  template <typename... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) const {
    if (!options_.quiet)
      log_info("{}: {}", name_, fmt::format(format, std::forward<Args>(args)...));
  }

  void announce() const {
    const CompileReport& report = trainer_->compile_report();
    say("{} parameters, {}", trainer_->graphs().sizes.parameters, source_->describe());
    say("peak memory {}", to_string(trainer_->memory()));
    say("{} kernels, {} distinct, {} from the cache, compiled in {:.1f} s", report.kernels,
        report.distinct, report.from_cache, report.seconds);
  }

  // The state at the newest checkpoint, or the initial one; returns the next step.
  int64_t begin() {
    trainer_->initialise();
    std::vector<fs::path> found;
    if (options_.resume) found = list_checkpoints(checkpoints());
    if (found.empty()) {
      if (options_.resume) say("no checkpoint yet, from the start");
      return 0;
    }
    CheckpointInfo info =
        read_checkpoint(found.back(), trainer_->weights(), trainer_->optimizer_state());
    if (info.target != options_.target.isa())
      log_warning("{}: the checkpoint was made on {}, this is {}: the last bits may differ", name_,
                  info.target, options_.target.isa());
    say("resumed at step {} from {}", info.step, found.back().string());
    return info.step;
  }

  // For others who load the checkpoint.
  std::map<std::string, std::string> texts() const {
    ModelConfig model = config_.model;
    model.context = config_.length;
    model.rewrites = rewrite_settings(config_);
    std::map<std::string, std::string> files = source_->tokenizer_files();
    files["config.json"] = hugging_face_config(model, "float32");
    return files;
  }

  void save(int64_t step) {
    losses_->flush();
    metrics_->flush();
    write_checkpoint(checkpoints(), {step, config_json(config_), options_.target.isa(), texts()},
                     trainer_->weights(), trainer_->optimizer_state());
    prune_checkpoints(checkpoints(), config_.keep_checkpoints);
  }

  // Of the steps since the run was started or resumed.
  void write_profile() {
    if (!profile_) return;
    trainer_->set_profile({});
    write_file((folder_ / "profile.json").string(), profile_->json(name_) + "\n");
  }

  void one_step(int64_t step, std::optional<Progress>& progress) {
    const auto start = std::chrono::steady_clock::now();
    const bool measured = is_measured(step);
    std::optional<RecordValues> values;
    if (measured) values.emplace(new_values());
    const StepResult result =
        measured ? trainer_->measured_step(step, [&](const ProbeValue& v) { values->add(v); })
                 : trainer_->step(step);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double speed = static_cast<double>(config_.batch * config_.length) / seconds;
    if (!std::isfinite(result.loss) && !warned_) {
      log_warning("{}: the loss of step {} is {}; the run goes on", name_, step, result.loss);
      warned_ = true;
    }
    if (profile_) profile_->count(seconds);
    losses_->append(loss_line(step, result.loss, result.rate, result.grad_norm, speed));
    if (measured) record(step, result.loss, *values);
    if (progress) progress->step(step + 1, result.loss, speed, measured);
  }

  RecordValues new_values() const {
    const TrainingGraphs& graphs = trainer_->graphs();
    return {graphs.sizes,
            metric_settings(config_),
            config_.batch,
            config_.length,
            {.record = config_.measure.metrics,
             .kept = graphs.kept_probes,
             .threads = trainer_->threads()}};
  }

  void record(int64_t step, double loss, RecordValues& values) {
    const TrainingGraphs& graphs = trainer_->graphs();
    if (config_.measure.metrics)
      metrics_->append(values.record(graphs.sizes, {step, config_.batch, config_.length, loss}));
    if (!graphs.kept_probes.empty()) {
      fs::create_directories(folder_ / "probes");
      write_probes(folder_ / "probes" / (checkpoint_name(step) + ".npz"), values.values(),
                   {graphs.kept_probes.begin(), graphs.kept_probes.end()});
    }
    if (step == measured_.back() && !graphs.map_probe.empty()) {
      std::vector<std::string> tokens;
      for (int32_t id : trainer_->sequence(step, 0)) tokens.push_back(source_->token_text(id));
      write_map(folder_ / "maps.json", step, config_.measure.map_layer, config_.measure.map_head,
                tokens, values.values().at(graphs.map_probe));
    }
  }

  std::string name_;
  const TrainOptions& options_;
  fs::path folder_;
  std::unique_ptr<BatchSource> source_;
  RunConfig config_;
  std::vector<int64_t> measured_;
  std::unique_ptr<Trainer> trainer_;
  std::unique_ptr<JsonLines> losses_, metrics_;
  std::optional<StepProfile> profile_;
  bool warned_ = false;
};

bool is_run(const fs::path& folder) {
  return fs::exists(folder / "config.json") && fs::exists(folder / "run.json");
}

// Whether something that is no run lies in the folder, which nothing may delete.
bool holds_something_else(const fs::path& folder) {
  return fs::exists(folder) && !is_run(folder) &&
         (!fs::is_directory(folder) || !fs::is_empty(folder));
}

// Whether the run may go into its folder; nothing is touched.
void check_folder(const RunConfig& config, const TrainOptions& options) {
  const fs::path folder = config.out;
  if (holds_something_else(folder))
    user_error("train", "{} exists and is no run. Choose another folder with out=FOLDER.",
               folder.string());
  const bool has_run = is_run(folder);
  if (options.resume) {
    if (!has_run)
      user_error("train", "there is no run in {} to resume. Leave out --resume to start one.",
                 folder.string());
    check_same_config(config_of_run(config.out), config);
  } else if (has_run && !options.overwrite) {
    user_error("train",
               "there is a run in {} already. Continue it with --resume, replace it with "
               "--overwrite, or choose another folder with out=FOLDER.",
               folder.string());
  }
}

void make_folder(const RunConfig& config) {
  if (is_run(config.out)) fs::remove_all(config.out);
  fs::create_directories(config.out);
  write_file((fs::path(config.out) / "config.json").string(), config_json(config) + "\n");
}

}  // namespace

RunConfig config_of_run(const std::string& folder) {
  const fs::path file = fs::path(folder) / "config.json";
  if (!is_run(folder))
    user_error("train", "there is no run in {}: config.json or run.json is missing.", folder);
  RunConfig config;
  try {
    UsageProblems problems("config");
    config = parse_config({read_file(file.string()), file.string()}, {}, {}, problems);
    problems.raise();
  } catch (const UserError& error) {  // no mistake of this command line
    user_error("train", "{} is damaged, or of another version of Weir: {}", file.string(),
               error.what());
  }
  config.out = folder;
  return config;
}

TrainOutcome train(const RunConfig& given, const TrainOptions& options) {
  RunConfig config = given;
  if (config.arms.empty()) config.arms.push_back({"run", {}});
  check_folder(config, options);
  std::vector<std::unique_ptr<ArmRun>> arms;
  for (const ArmConfig& arm : config.arms) {
    auto run = std::make_unique<ArmRun>(arm.name, with_arm(config, arm), options,
                                        fs::path(config.out) / arm.name);
    if (options.resume && run->is_complete()) continue;
    run->check();
    arms.push_back(std::move(run));
  }
  TrainOutcome outcome{0, config.arms.back().name, config.steps};
  if (arms.empty()) return outcome;
  arms.front()->prepare();
  if (!options.resume) make_folder(config);
  RunFacts facts{options.command, print(options.target), utc_now(), 0};
  write_run_json(config.out, config, facts);
  const auto start = std::chrono::steady_clock::now();
  SignalWatch signals;
  for (std::unique_ptr<ArmRun>& arm : arms) {
    outcome = arm->run(signals);
    if (outcome.signal != 0) return outcome;
    arm.reset();
  }
  facts.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  write_run_json(config.out, config, facts);
  return outcome;
}

}  // namespace weir
