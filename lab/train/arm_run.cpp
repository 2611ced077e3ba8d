#include "lab/train/arm_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "codegen/llvm/object_cache.h"
#include "engine/memory.h"
#include "io/file.h"
#include "lab/measure/nonfinite.h"
#include "lab/train/initial_weights.h"
#include "models/hugging_face_config.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

// Of the model that a configuration describes; a model of Weir's own is not built for it.
int64_t parameters_of(const RunConfig& config) {
  if (config.own_model) return model_of(config).build(1, config.length).parameter_count();
  const ModelConfig c = resolved(config.model);
  const int64_t attention = c.d_model * c.d_head * 2 * (c.heads + c.kv_heads);
  const int64_t norms = c.norm_place == "none" ? 0 : c.norm_place == "sandwich" ? 4 : 2;
  const int64_t norm = c.d_model * (1 + 2 * c.norm_gate);
  const int64_t block = norms * norm + attention + 3 * c.d_model * c.d_ff;
  return (c.tied ? 1 : 2) * c.vocabulary * c.d_model + c.layers * block + norm;
}

// Weights and optimizer state are there whatever the plan is; a model beyond that is not planned,
// which would take long.
void check_state_memory(const std::string& arm, const RunConfig& config) {
  const int64_t parameters = parameters_of(config);
  const int64_t tensors = config.optimizer.kind == "adamw" ? 3 : 2;
  const double bytes = static_cast<double>(tensors * parameters) * sizeof(float);
  const int64_t limit = config.memory.empty() ? free_memory() : expect(parse_bytes(config.memory));
  if (bytes > static_cast<double>(limit))
    user_error("train",
               "the model of arm {} has {} parameters: weights and optimizer state alone take {}, "
               "but only {} may be used. Take smaller sizes (model.*), or allow more (memory=).",
               arm, parameters, human_bytes(bytes), human_bytes(static_cast<double>(limit)));
}

// The same sequences at every step, so many as asked for or as there are.
int64_t validation_sequences(const RunConfig& config, const BatchSource& validation) {
  resolve_vocabulary(config, validation);
  const int64_t count = std::min(config.measure.validation_batches * config.batch,
                                 validation.sequences(config.length));
  if (count == 0)
    user_error("data",
               "the validation text has {} tokens, too few for one sequence of length {}. Hold "
               "out more (data.validation), or make length smaller.",
               validation.facts().tokens, config.length);
  return count;
}

int64_t count_targets(const BatchSource& source, int64_t sequences, int64_t T) {
  std::vector<int32_t> tokens(static_cast<size_t>(T)), targets(tokens.size());
  int64_t count = 0;
  for (int64_t n = 0; n < sequences; ++n) {
    source.fill(n, 1, T, tokens.data(), targets.data());
    count += std::count_if(targets.begin(), targets.end(), [](int32_t t) { return t >= 0; });
  }
  return count;
}

// Texts beside a checkpoint, for others who load it; they know no model of one's own.
std::map<std::string, std::string> checkpoint_texts(const RunConfig& config,
                                                    const BatchSource& source) {
  if (config.own_model) return source.tokenizer_files();
  ModelConfig model = config.model;
  model.context = config.length;
  model.rewrites = rewrite_settings(config);
  std::map<std::string, std::string> files = source.tokenizer_files();
  files["config.json"] = hugging_face_config(model, "float32");
  return files;
}

std::string not_finite_json(int64_t step, const std::string& what, const std::string& first) {
  return nlohmann::ordered_json(
             {{"format", "weir.not_finite/1"}, {"step", step}, {"what", what}, {"first", first}})
      .dump();
}

// Which number of a step is not finite.
std::string what_is_not_finite(int64_t step, const StepResult& result) {
  return std::isfinite(result.loss)
             ? fmt::format("the gradient norm of step {} is {}", step,
                           nonfinite_text(result.grad_norm))
             : fmt::format("the loss of step {} is {}", step, nonfinite_text(result.loss));
}

}  // namespace

ArmRun::ArmRun(const std::string& name, const RunConfig& config, const TrainOptions& options,
               const fs::path& folder)
    : name_(name),
      options_(options),
      data_(make_run_data(config.data, config.seed)),
      config_(resolve_vocabulary(config, *data_.training)),
      files_(name, folder, config_),
      measured_(measured_steps(config_)) {
  if (!data_.validation) return;
  validation_sequences_ = validation_sequences(config_, *data_.validation);
  validation_targets_ = count_targets(*data_.validation, validation_sequences_, config_.length);
}

void ArmRun::check(const DataFacts& before) {
  check_state_memory(name_, config_);
  const Activity activity(name_ + ": planning");
  const TrainingGraphs graphs = make_training_graphs(config_, options_.target, !measured_.empty());
  initial_ = before;
  if (options_.resume) from_ = files_.newest_sound_checkpoint();
  if (!config_.init.empty() && !from_) check_initial_weights(graphs.parameters);
  // A text may be too short for one sequence, which only cutting one tells.
  std::vector<int32_t> tokens(static_cast<size_t>(config_.length)), targets(tokens.size());
  data_.training->fill(0, 1, config_.length, tokens.data(), targets.data());
}

ArmData ArmRun::data() const {
  if (!data_.validation) return {data_.training->facts(), {}, initial_, 0};
  return {data_.training->facts(), data_.validation->facts(), initial_, validation_targets_};
}

void ArmRun::prepare() {
  if (trainer_) return;
  {
    const Activity activity(name_ + ": planning and compiling");
    trainer_ =
        std::make_unique<Trainer>(config_, *data_.training, compile_settings(), !measured_.empty());
  }
  announce();
}

TrainOutcome ArmRun::run(const SignalWatch& signals, Manifest& manifest) {
  prepare();
  manifest_ = &manifest;
  const fs::path complete = written("complete");
  fs::create_directories(files_.folder());
  fs::remove(complete);
  write_file(written("config.json").string(), config_json(config_) + "\n");
  const int64_t start = begin();
  open_lines(start);
  // A run that is resumed needs nothing but its own folder.
  if (start == 0 && !config_.init.empty()) save(0);
  if (options_.profile) profile_.emplace(options_.target, *trainer_);
  if (options_.check_finite) watch_for_not_finite();
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
  if (start < config_.steps || !fs::exists(files_.checkpoints() / checkpoint_name(config_.steps)))
    save(config_.steps);
  write_profile();
  validate(config_.steps);
  if (is_measured(config_.steps)) {
    RecordValues values = new_values();
    // Its update goes nowhere: the state has been saved, and nothing comes after.
    const StepResult result =
        trainer_->measured_step(config_.steps, [&](const ProbeValue& value) { values.add(value); });
    record(config_.steps, result.loss, values);
    check_finite(config_.steps, result);
  }
  flush();
  write_file(complete.string(), "");
  return {0, name_, config_.steps};
}

void ArmRun::check_initial_weights(const std::vector<Parameter>& parameters) {
  const std::string hash = InitialWeights(config_.init, parameters).check();
  if (!initial_.hash.empty() && initial_.hash != hash)
    user_error("train",
               "the weights of init={} are not those that arm {} was started with (hash {} now, "
               "{} at the start), and it has no checkpoint of its own yet. Give it the weights of "
               "then, or start another run with out=FOLDER.",
               config_.init, name_, hash, initial_.hash);
  initial_ = {hash, config_.init};
}

bool ArmRun::is_measured(int64_t step) const {
  return (config_.measure.metrics || !config_.measure.probes.empty()) &&
         std::binary_search(measured_.begin(), measured_.end(), step);
}

CompileSettings ArmRun::compile_settings() const {
  return {.target = options_.target, .cache = default_object_cache()};
}

fs::path ArmRun::written(const fs::path& name) { return manifest_->add(name_ / name); }

void ArmRun::announce() const {
  const CompileReport& report = trainer_->compile_report();
  say("{} parameters, {}", trainer_->graphs().sizes.parameters, data_.training->describe());
  if (data_.validation)
    say("validation on {} targets of {}", validation_targets_, data_.validation->describe());
  const std::vector<std::string>& left_out = trainer_->graphs().metrics.left_out;
  if (!left_out.empty())
    say("left out of the records, since the model does not name them: {}", join(left_out, ", "));
  say("peak memory {}", to_string(trainer_->memory()));
  say("{} kernels, {} distinct, {} from the cache, compiled in {:.1f} s", report.kernels,
      report.distinct, report.from_cache, report.seconds);
}

int64_t ArmRun::begin() {
  trainer_->initialise();
  if (options_.resume && !from_) say("no checkpoint to go on from, from the start");
  if (!from_ && !config_.init.empty()) {
    InitialWeights(config_.init, trainer_->graphs().parameters).read(trainer_->weights());
    say("weights of {}", config_.init);
  }
  if (!from_) return 0;
  CheckpointInfo info = read_checkpoint(*from_, trainer_->weights(), trainer_->optimizer_state());
  if (info.target != options_.target.isa())
    log_warning("{}: the checkpoint was made on {}, this is {}: the last bits may differ", name_,
                info.target, options_.target.isa());
  say("resumed at step {} from {}", info.step, from_->string());
  return info.step;
}

void ArmRun::open_lines(int64_t start) {
  KeptLines kept{.losses = files_.lines("loss.jsonl", start).text,
                 .validations = files_.lines("validation.jsonl", start).text,
                 .records = files_.lines("metrics.jsonl", start).text};
  losses_ = std::make_unique<JsonLines>(written("loss.jsonl"), kept.losses);
  metrics_ = std::make_unique<JsonLines>(written("metrics.jsonl"), kept.records);
  if (data_.validation)
    validations_ = std::make_unique<JsonLines>(written("validation.jsonl"), kept.validations);
  if (config_.tensorboard) events_ = std::make_unique<EventLog>(written(EventLog::kName), kept);
}

void ArmRun::flush() {
  losses_->flush();
  metrics_->flush();
  if (validations_) validations_->flush();
  if (events_) events_->flush();
}

void ArmRun::save(int64_t step) {
  flush();
  const CheckpointInfo info{step, config_json(config_), options_.target.isa(),
                            checkpoint_texts(config_, *data_.training)};
  for (const std::string& file : checkpoint_files(info))
    written(fs::path("checkpoints") / checkpoint_name(step) / file);
  write_checkpoint(files_.checkpoints(), info, trainer_->weights(), trainer_->optimizer_state());
  prune_checkpoints(files_.checkpoints(), config_.keep_checkpoints);
}

void ArmRun::write_profile() {
  if (!profile_) return;
  trainer_->set_profile({});
  write_file(written("profile.json").string(), profile_->json(name_) + "\n");
}

std::optional<ValidationResult> ArmRun::validate(int64_t step) {
  if (!data_.validation || !std::binary_search(measured_.begin(), measured_.end(), step))
    return std::nullopt;
  const ValidationResult result = trainer_->validate(*data_.validation, validation_sequences_);
  const std::string line = validation_line(step, result.loss, result.targets, result.recalled);
  validations_->append(line);
  if (events_) events_->add_validation(line);
  return result;
}

void ArmRun::one_step(int64_t step, std::optional<Progress>& progress) {
  const std::optional<ValidationResult> validation = validate(step);
  if (progress && validation) progress->validated(validation->loss, validation->recalled);
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
  const std::string line = loss_line(step, result.loss, result.rate, result.grad_norm, speed);
  losses_->append(line);
  if (events_) events_->add_loss(line);
  if (measured) record(step, result.loss, *values);
  check_finite(step, result);
  if (progress) progress->step(step + 1, result.loss, speed, measured);
}

void ArmRun::watch_for_not_finite() {
  finite_.emplace(trainer_->programs(), config_.batch / config_.micro_batches);
  trainer_->set_kernel_sink(finite_->sink());
}

std::string ArmRun::first_not_finite(int64_t step) {
  std::optional<NotFinite> found;
  if (finite_) {
    found = finite_->first();
  } else {
    // The step has left the state as it was, so that it can be computed once more.
    FiniteCheck check(trainer_->programs(), config_.batch / config_.micro_batches);
    trainer_->set_kernel_sink(check.sink());
    trainer_->step(step);
    trainer_->set_kernel_sink({});
    found = check.first();
  }
  // Sums over kernels' results, such as the gradient norm, may alone be beyond 32-bit numbers; they
  // are results, too, so that something is always found.
  return found ? to_string(*found) : "a second computation of it is finite, which is a bug in Weir";
}

void ArmRun::check_finite(int64_t step, const StepResult& result) {
  const bool finite = std::isfinite(result.loss) && std::isfinite(result.grad_norm);
  if (finite && !(finite_ && finite_->first())) return;
  const std::string what =
      finite
          ? fmt::format("a value of step {} is not finite, though loss and gradient norm are", step)
          : what_is_not_finite(step, result);
  const bool again = std::exchange(warned_, true);
  const bool stops = config_.on_nonfinite == "stop";
  const std::string first = again && !stops ? "" : first_not_finite(step);
  if (!first.empty())
    write_file(written("not_finite.json").string(), not_finite_json(step, what, first) + "\n");
  if (finite_) finite_->clear();
  if (!stops) {
    if (!again)
      log_warning(
          "{}: {}; {}. The updates of this step and of any other like it are left out, and the run "
          "goes on (on_nonfinite=continue)",
          name_, what, first);
    return;
  }
  const fs::path checkpoint = files_.checkpoints() / checkpoint_name(finite ? step + 1 : step);
  if (step < config_.steps) save(finite ? step + 1 : step);
  trainer_.reset();
  user_error("train",
             "{}: {}; {}. The run is stopped (on_nonfinite=stop), and the state {} that step "
             "is kept in {}. Start another run with a smaller optimizer.rate, or leave such "
             "updates out: weir train resume={} on_nonfinite=continue",
             name_, what, first, finite ? "behind" : "before", checkpoint.string(),
             files_.folder().parent_path().string());
}

RecordValues ArmRun::new_values() const {
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

void ArmRun::record(int64_t step, double loss, RecordValues& values) {
  const TrainingGraphs& graphs = trainer_->graphs();
  if (config_.measure.metrics) {
    const std::string line =
        values.record(graphs.sizes, {step, config_.batch, config_.length, loss});
    metrics_->append(line);
    if (events_) events_->add_record(line);
  }
  if (!graphs.kept_probes.empty()) {
    const fs::path file = written(probes_of_step(step));
    fs::create_directories(file.parent_path());
    write_probes(file, values.values(), {graphs.kept_probes.begin(), graphs.kept_probes.end()});
  }
  if (step == measured_.back() && !graphs.map_probe.empty()) write_last_map(step, values.values());
}

void ArmRun::write_last_map(int64_t step, const Tensors& values) {
  const TrainingGraphs& graphs = trainer_->graphs();
  const AttentionMap map{config_.measure.map_layer, config_.measure.map_head,
                         map_cells(config_.length, kMapSide), values.at(graphs.map_probe)};
  const std::vector<int32_t> sequence = trainer_->sequence(step, 0);
  std::vector<std::string> tokens;
  for (int64_t cell = 0; cell < map.cells.count(); ++cell)
    tokens.push_back(
        data_.training->token_text(sequence[static_cast<size_t>(map.cells.start(cell))]));
  write_map(written("maps.json"), step, map, tokens);
}

}  // namespace weir
