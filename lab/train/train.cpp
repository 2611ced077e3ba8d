#include "lab/train/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

#include "codegen/llvm/object_cache.h"
#include "engine/memory.h"
#include "engine/profile.h"
#include "io/file.h"
#include "lab/measure/nonfinite.h"
#include "lab/measure/progress.h"
#include "lab/measure/record_values.h"
#include "lab/report/profile_json.h"
#include "lab/train/data.h"
#include "lab/train/first_not_finite.h"
#include "lab/train/initial_weights.h"
#include "lab/train/run_folder.h"
#include "lab/train/run_place.h"
#include "lab/train/trainer.h"
#include "models/hugging_face_config.h"
#include "support/clock.h"
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

// Of the model that a configuration describes; a model of Weir's own is not built for it.
int64_t parameters_of(const RunConfig& config) {
  if (config.own_model) return model_of(config).build(1, config.length).parameter_count();
  const ModelConfig c = resolved(config.model);
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
        data_(make_run_data(config.data, config.seed)),
        config_(resolve_vocabulary(config, *data_.training)),
        measured_(measured_steps(config_)) {
    if (data_.validation) plan_validation();
  }

  // Everything that can be wrong with the model and the probes, before anything is written.
  void check() const {
    check_state_memory();
    const Activity activity(name_ + ": planning");
    const TrainingGraphs graphs =
        make_training_graphs(config_, options_.target, !measured_.empty());
    if (!config_.init.empty() && !options_.resume)
      read_initial_weights(config_.init, graphs.parameters, {});
    // A text may be too short for one sequence, which only cutting one tells.
    std::vector<int32_t> tokens(static_cast<size_t>(config_.length)), targets(tokens.size());
    data_.training->fill(0, 1, config_.length, tokens.data(), targets.data());
  }

  ArmData data() const {
    if (!data_.validation) return {data_.training->facts(), {}, 0};
    return {data_.training->facts(), data_.validation->facts(),
            validation_sequences_ * config_.length};
  }

  // Whether an earlier run brought the arm to its end, and all its lines are there.
  bool is_complete() const {
    if (!fs::exists(folder_ / "complete") || !fs::exists(folder_ / "config.json")) return false;
    RunConfig done;
    try {
      done = read_run_config(folder_ / "config.json", "train");
    } catch (const UserError& error) {  // it is written anew
      log_warning("{} It is written anew.", error.what());
      return false;
    }
    const StepLines losses = lines("loss.jsonl", config_.steps);
    const StepLines records = lines("metrics.jsonl", config_.steps + 1);
    const StepLines validations = lines("validation.jsonl", config_.steps + 1);
    return done.steps == config_.steps && !losses.missing && losses.as_written &&
           !records.missing && records.as_written && !step_to_repeat(config_.steps + 1) &&
           (!data_.validation || (!validations.missing && validations.as_written));
  }

  // Compiles; nothing is written yet.
  void prepare() {
    if (trainer_) return;
    {
      const Activity activity(name_ + ": planning and compiling");
      trainer_ = std::make_unique<Trainer>(config_, *data_.training, compile_settings(),
                                           !measured_.empty());
    }
    announce();
  }
  // Gives back what prepare() took; the object cache makes doing it again cheap.
  void release() { trainer_.reset(); }

  TrainOutcome run(const SignalWatch& signals, Manifest& manifest) {
    prepare();
    manifest_ = &manifest;
    const fs::path complete = written("complete");
    fs::create_directories(folder_);
    fs::remove(complete);
    write_file(written("config.json").string(), config_json(config_) + "\n");
    const int64_t start = begin();
    losses_ = std::make_unique<JsonLines>(written("loss.jsonl"), lines("loss.jsonl", start).text);
    metrics_ =
        std::make_unique<JsonLines>(written("metrics.jsonl"), lines("metrics.jsonl", start).text);
    // A run that is resumed needs nothing but its own folder.
    if (start == 0 && !config_.init.empty()) save(0);
    if (data_.validation)
      validations_ = std::make_unique<JsonLines>(written("validation.jsonl"),
                                                 lines("validation.jsonl", start).text);
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
    validate(config_.steps);
    if (is_measured(config_.steps)) {
      RecordValues values = new_values();
      // Its update goes nowhere: the state has been saved, and nothing comes after.
      const StepResult result = trainer_->measured_step(
          config_.steps, [&](const ProbeValue& value) { values.add(value); });
      record(config_.steps, result.loss, values);
      check_finite(config_.steps, result);
    }
    metrics_->flush();
    if (validations_) validations_->flush();
    write_file(complete.string(), "");
    return {0, name_, config_.steps};
  }

 private:
  // Weights and optimizer state are there whatever the plan is; a model beyond that is not planned,
  // which would take long.
  void check_state_memory() const {
    const int64_t parameters = parameters_of(config_);
    const int64_t tensors = config_.optimizer.kind == "adamw" ? 3 : 2;
    const double bytes = static_cast<double>(tensors * parameters) * sizeof(float);
    const int64_t limit =
        config_.memory.empty() ? free_memory() : expect(parse_bytes(config_.memory));
    if (bytes > static_cast<double>(limit))
      user_error(
          "train",
          "the model of arm {} has {} parameters: weights and optimizer state alone take {}, "
          "but only {} may be used. Take smaller sizes (model.*), or allow more (memory=).",
          name_, parameters, human_bytes(bytes), human_bytes(static_cast<double>(limit)));
  }

  fs::path checkpoints() const { return folder_ / "checkpoints"; }
  CompileSettings compile_settings() const {
    return {.target = options_.target, .cache = default_object_cache()};
  }
  // A file of the arm that is about to be written.
  fs::path written(const fs::path& name) { return manifest_->add(name_ / name); }

  // The lines below a step that a file of the arm has, and should have.
  StepLines lines(const std::string& file, int64_t below) const {
    std::vector<int64_t> wanted;
    if (file == "loss.jsonl") {
      wanted.resize(static_cast<size_t>(std::min(below, config_.steps)));
      std::iota(wanted.begin(), wanted.end(), 0);
    } else if (file == "validation.jsonl" ? data_.validation != nullptr : config_.measure.metrics) {
      for (int64_t step : measured_)
        if (step < below) wanted.push_back(step);
    }
    return read_step_lines(folder_ / file, wanted, below);
  }

  // The first measured step below a bound whose probes, or whose map, have to be made again.
  std::optional<int64_t> step_to_repeat(int64_t below) const {
    std::vector<int64_t> done = measured_;
    std::erase_if(done, [&](int64_t step) { return step >= below; });
    if (!config_.measure.probes.empty())
      if (const auto step = step_without_probes(folder_, done)) return step;
    if (!done.empty() && done.back() == measured_.back() && has_damaged_map(folder_))
      return done.back();
    return std::nullopt;
  }

  bool is_measured(int64_t step) const {
    return (config_.measure.metrics || !config_.measure.probes.empty()) &&
           std::binary_search(measured_.begin(), measured_.end(), step);
  }

  // The same sequences at every step, so many as asked for or as there are.
  void plan_validation() {
    resolve_vocabulary(config_, *data_.validation);
    validation_sequences_ = std::min(config_.measure.validation_batches * config_.batch,
                                     data_.validation->sequences(config_.length));
    if (validation_sequences_ == 0)
      user_error("data",
                 "the validation text has {} tokens, too few for one sequence of length {}. Hold "
                 "out more (data.validation), or make length smaller.",
                 data_.validation->facts().tokens, config_.length);
  }

  // The validation loss of the state before update `step`, on measured steps.
  std::optional<double> validate(int64_t step) {
    if (!data_.validation || !std::binary_search(measured_.begin(), measured_.end(), step))
      return std::nullopt;
    const double loss = trainer_->validate(*data_.validation, validation_sequences_);
    validations_->append(validation_line(step, loss, validation_sequences_ * config_.length));
    return loss;
  }

  template <typename... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) const {
    if (!options_.quiet)
      log_info("{}: {}", name_, fmt::format(format, std::forward<Args>(args)...));
  }

  void announce() const {
    const CompileReport& report = trainer_->compile_report();
    say("{} parameters, {}", trainer_->graphs().sizes.parameters, data_.training->describe());
    if (data_.validation)
      say("validation on {} tokens of {}", validation_sequences_ * config_.length,
          data_.validation->describe());
    const std::vector<std::string>& left_out = trainer_->graphs().metrics.left_out;
    if (!left_out.empty())
      say("left out of the records, since the model does not name them: {}", join(left_out, ", "));
    say("peak memory {}", to_string(trainer_->memory()));
    say("{} kernels, {} distinct, {} from the cache, compiled in {:.1f} s", report.kernels,
        report.distinct, report.from_cache, report.seconds);
  }

  // The newest checkpoint whose steps all have their lines, none if there is none.
  std::optional<fs::path> newest_sound_checkpoint() const {
    std::vector<fs::path> found = list_checkpoints(checkpoints());
    if (found.empty()) return std::nullopt;
    const int64_t newest = step_of_checkpoint(found.back());
    for (const char* file : {"loss.jsonl", "metrics.jsonl", "validation.jsonl"}) {
      const StepLines there = lines(file, newest);
      if (!there.missing) {
        if (!there.as_written)
          log_warning("{}: {} has lines that are damaged or there twice; it is put in order", name_,
                      (folder_ / file).string());
        continue;
      }
      while (!found.empty() && step_of_checkpoint(found.back()) > *there.missing) found.pop_back();
      log_warning(
          "{}: {} lacks the line of step {}, though there is a checkpoint of step {}. The steps "
          "are computed again from {}",
          name_, (folder_ / file).string(), *there.missing, newest,
          found.empty() ? "the start" : found.back().string());
      if (found.empty()) return std::nullopt;
    }
    if (const auto step = step_to_repeat(newest)) {
      while (!found.empty() && step_of_checkpoint(found.back()) > *step) found.pop_back();
      log_warning(
          "{}: the probes or the map of step {} are missing or damaged, though there is a "
          "checkpoint "
          "of step {}. The steps are computed again from {}",
          name_, *step, newest, found.empty() ? "the start" : found.back().string());
      if (found.empty()) return std::nullopt;
    }
    return found.back();
  }

  // The state at the newest checkpoint, or the initial one; returns the next step.
  int64_t begin() {
    trainer_->initialise();
    const std::optional<fs::path> checkpoint =
        options_.resume ? newest_sound_checkpoint() : std::nullopt;
    if (options_.resume && !checkpoint) say("no checkpoint to go on from, from the start");
    if (!checkpoint && !config_.init.empty()) {
      read_initial_weights(config_.init, trainer_->graphs().parameters, trainer_->weights());
      say("weights of {}", config_.init);
    }
    if (!checkpoint) return 0;
    CheckpointInfo info =
        read_checkpoint(*checkpoint, trainer_->weights(), trainer_->optimizer_state());
    if (info.target != options_.target.isa())
      log_warning("{}: the checkpoint was made on {}, this is {}: the last bits may differ", name_,
                  info.target, options_.target.isa());
    say("resumed at step {} from {}", info.step, checkpoint->string());
    return info.step;
  }

  // For others who load the checkpoint; they know no model of one's own.
  std::map<std::string, std::string> texts() const {
    if (config_.own_model) return data_.training->tokenizer_files();
    ModelConfig model = config_.model;
    model.context = config_.length;
    model.rewrites = rewrite_settings(config_);
    std::map<std::string, std::string> files = data_.training->tokenizer_files();
    files["config.json"] = hugging_face_config(model, "float32");
    return files;
  }

  void save(int64_t step) {
    losses_->flush();
    metrics_->flush();
    if (validations_) validations_->flush();
    const CheckpointInfo info{step, config_json(config_), options_.target.isa(), texts()};
    for (const std::string& file : checkpoint_files(info))
      written(fs::path("checkpoints") / checkpoint_name(step) / file);
    write_checkpoint(checkpoints(), info, trainer_->weights(), trainer_->optimizer_state());
    prune_checkpoints(checkpoints(), config_.keep_checkpoints);
  }

  // Of the steps since the run was started or resumed.
  void write_profile() {
    if (!profile_) return;
    trainer_->set_profile({});
    write_file(written("profile.json").string(), profile_->json(name_) + "\n");
  }

  void one_step(int64_t step, std::optional<Progress>& progress) {
    const std::optional<double> validation = validate(step);
    if (progress && validation) progress->validated(*validation);
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
    if (profile_) profile_->count(seconds);
    losses_->append(loss_line(step, result.loss, result.rate, result.grad_norm, speed));
    if (measured) record(step, result.loss, *values);
    check_finite(step, result);
    if (progress) progress->step(step + 1, result.loss, speed, measured);
  }

  // A step with a loss or gradients that are not finite has left the state as it was; the run stops
  // there with a checkpoint, or goes on.
  void check_finite(int64_t step, const StepResult& result) {
    if (std::isfinite(result.loss) && std::isfinite(result.grad_norm)) return;
    const std::string what =
        std::isfinite(result.loss)
            ? fmt::format("the gradient norm of step {} is {}", step,
                          nonfinite_text(result.grad_norm))
            : fmt::format("the loss of step {} is {}", step, nonfinite_text(result.loss));
    if (config_.on_nonfinite == "continue") {
      if (!std::exchange(warned_, true))
        log_warning(
            "{}: {}. The updates of this step and of any other like it are left out, and the run "
            "goes on (on_nonfinite=continue)",
            name_, what);
      return;
    }
    const fs::path checkpoint = checkpoints() / checkpoint_name(step);
    if (step < config_.steps) save(step);
    trainer_.reset();
    user_error("train",
               "{}: {}; {}. The run is stopped (on_nonfinite=stop), and the state before that step "
               "is kept in {}. Start another run with a smaller optimizer.rate, or leave such "
               "updates out: weir train resume={} on_nonfinite=continue",
               name_, what, where_from(step, checkpoint), checkpoint.string(),
               folder_.parent_path().string());
  }

  std::string where_from(int64_t step, const fs::path& checkpoint) const {
    try {
      const std::string found = first_not_finite(
          config_, *data_.training, compile_settings(), step, [&](Trainer& trainer) {
            read_checkpoint(checkpoint, trainer.weights(), trainer.optimizer_state());
          });
      return found.empty() ? "a second computation of it is finite, which is a bug in Weir" : found;
    } catch (const UserError& error) {
      return fmt::format("what is not finite first could not be looked for: {}", error.what());
    }
  }

  RecordValues new_values() const {
    const TrainingGraphs& graphs = trainer_->graphs();
    return {graphs.sizes,
            metric_settings(config_),
            config_.batch,
            config_.length,
            {.record = config_.measure.metrics,
             .kept = graphs.kept_probes,
             .threads = trainer_->threads(),
             .plan = graphs.metrics}};
  }

  void record(int64_t step, double loss, RecordValues& values) {
    const TrainingGraphs& graphs = trainer_->graphs();
    if (config_.measure.metrics)
      metrics_->append(values.record(graphs.sizes, {step, config_.batch, config_.length, loss}));
    if (!graphs.kept_probes.empty()) {
      const fs::path file = written(probes_of_step(step));
      fs::create_directories(file.parent_path());
      write_probes(file, values.values(), {graphs.kept_probes.begin(), graphs.kept_probes.end()});
    }
    if (step == measured_.back() && !graphs.map_probe.empty()) {
      const AttentionMap map{config_.measure.map_layer, config_.measure.map_head,
                             map_cells(config_.length, kMapSide),
                             values.values().at(graphs.map_probe)};
      const std::vector<int32_t> sequence = trainer_->sequence(step, 0);
      std::vector<std::string> tokens;
      for (int64_t cell = 0; cell < map.cells.count(); ++cell)
        tokens.push_back(
            data_.training->token_text(sequence[static_cast<size_t>(map.cells.start(cell))]));
      write_map(written("maps.json"), step, map, tokens);
    }
  }

  std::string name_;
  const TrainOptions& options_;
  fs::path folder_;
  RunData data_;
  RunConfig config_;
  std::vector<int64_t> measured_;
  std::unique_ptr<Trainer> trainer_;
  Manifest* manifest_ = nullptr;
  std::unique_ptr<JsonLines> losses_, metrics_, validations_;
  int64_t validation_sequences_ = 0;
  std::optional<StepProfile> profile_;
  bool warned_ = false;
};

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
    compare("data", before.training, now.training);
    compare("validation data", before.validation, now.validation);
    before = now;
  }
  problems.raise();
  return arms;
}

// Checks and compiles all arms that are not complete, which are returned; the first is ready to
// run.
std::vector<std::unique_ptr<ArmRun>> prepared(std::vector<std::unique_ptr<ArmRun>> arms,
                                              const TrainOptions& options) {
  if (options.resume)
    std::erase_if(arms, [](const std::unique_ptr<ArmRun>& arm) { return arm->is_complete(); });
  for (const std::unique_ptr<ArmRun>& arm : arms) arm->check();
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
  RunConfig config = read_run_config(file, "train");
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
  std::vector<std::unique_ptr<ArmRun>> arms = prepared(make_arms(config, options, facts), options);
  TrainOutcome outcome{0, config.arms.back().name, config.steps};
  if (arms.empty()) return outcome;
  SignalWatch signals;
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
