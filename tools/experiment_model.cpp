#include "tools/experiment_model.h"

#include <fmt/format.h>

#include <filesystem>

#include "lab/train/data.h"
#include "lab/train/initial_weights.h"
#include "lab/train/run_folder.h"
#include "support/text.h"
#include "support/usage_error.h"

namespace weir {
namespace {

constexpr const char* kTraining = "training";
constexpr const char* kHeldOut = "held-out";

// A configuration of a run instead of a checkpoint.
bool is_configuration(const std::string& model) {
  std::error_code error;
  return model.ends_with(".json") && std::filesystem::is_regular_file(model, error);
}

// The configuration of the run that a checkpoint belongs to: that of its arm, ARM/checkpoints/STEP.
std::optional<std::filesystem::path> configuration_of(const std::string& checkpoint) {
  std::filesystem::path folder = std::filesystem::absolute(checkpoint).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // of a path that ends in a slash
  std::filesystem::path file = folder.parent_path().parent_path() / "config.json";
  std::error_code error;
  if (folder.parent_path().filename() != "checkpoints" ||
      !std::filesystem::is_regular_file(file, error))
    return std::nullopt;
  return file;
}

// The first sequences of a run's data.
TokenBatch batch_of_run(const BatchSource& data, int64_t sequences, int64_t length) {
  TokenBatch batch{sequences, length, {}, {}, {}};
  const auto count = static_cast<size_t>(sequences * length);
  batch.tokens.resize(count);
  batch.targets.resize(count);
  data.fill(0, sequences, length, batch.tokens.data(), batch.targets.data());
  return batch;
}

// A held-out text may have too few of them.
void check_held_out(const std::string& topic, const BatchSource& data, int64_t sequences,
                    int64_t length) {
  const int64_t there = data.sequences(length);
  if (sequences > there)
    user_error(topic,
               "{} sequences of {} tokens are asked for, but the run holds out {}. Ask for fewer "
               "(--batch), hold out more (data.validation), or take the first batch that was "
               "trained on (--data training).",
               sequences, length, there);
}

// Takes the last `count` sequences off a batch.
TokenBatch take_behind(const std::string& topic, TokenBatch& batch, int64_t count) {
  if (batch.batch <= count)
    user_error(topic,
               "{} sequences of {} tokens are given, but {} are needed behind those that are "
               "evaluated. Give more, or ask for fewer.",
               batch.batch, batch.length, count);
  TokenBatch behind{count, batch.length, {}, {}, batch.around};
  const auto kept = static_cast<ptrdiff_t>((batch.batch - count) * batch.length);
  behind.tokens.assign(batch.tokens.begin() + kept, batch.tokens.end());
  behind.targets.assign(batch.targets.begin() + kept, batch.targets.end());
  batch.tokens.resize(static_cast<size_t>(kept));
  batch.targets.resize(static_cast<size_t>(kept));
  batch.batch -= count;
  return behind;
}

}  // namespace

void ExperimentOptions::add_to(OptionTable& table) {
  checkpoint.add_to(table);
  input.add_to(table);
  add_data(table);
}

void ExperimentOptions::add_data(OptionTable& table) {
  table.add(
      "--data", &data, one_of({kTraining, kHeldOut}),
      fmt::format("which data of its run the model is run on without --tokens and --text: the "
                  "first batch that was trained on, or --batch sequences that were not; {} if "
                  "not given",
                  prefers_held_out ? "of synthetic data held-out, of text training" : kTraining));
}

bool ExperimentOptions::takes_held_out(const DataConfig& of) const {
  return data.empty() ? prefers_held_out && of.kind != "text" : data == kHeldOut;
}

void ExperimentOptions::check(const OptionTable& table, UsageProblems& problems) const {
  const bool has_data = is_configuration(checkpoint.model) || configuration_of(checkpoint.model);
  if (table.given("--tokens") || table.given("--text") || !has_data) {
    if (table.given("--data"))
      problems.add(
          has_data ? "--data is of the data of the run. Give it without --tokens and --text."
                   : fmt::format("--data is of the data of a run, but {} is no checkpoint of one.",
                                 checkpoint.model));
    input.check(table, problems);
    return;
  }
  for (const char* name :
       {"--batch", "--length", "--tokenizer", "--separator", "--begin-token", "--text-key"}) {
    const bool is_batch = std::string_view(name) == "--batch";
    if (table.given(name) && !(is_batch && (prefers_held_out || data == kHeldOut)))
      problems.add(
          fmt::format("{} is of --text; without --tokens and --text the batch is the first "
                      "that the run is trained on{}.",
                      name, is_batch ? ", or with --data held-out of so many sequences" : ""));
  }
}

Experiment Experiment::open(const std::string& topic, const ExperimentOptions& options,
                            const Limits& limits) {
  const std::string& model = options.checkpoint.model;
  const bool own_data = options.input.tokens.empty() && options.input.text.text.empty();
  std::shared_ptr<const Checkpoint> checkpoint;
  std::optional<RunConfig> config;
  std::optional<TextInput> input;
  std::unique_ptr<BatchSource> data;
  Experiment experiment;
  UsageProblems opening(topic);
  opening.collect([&] {
    if (is_configuration(model))
      config = read_run_config(model, topic.c_str());
    else
      checkpoint = options.checkpoint.open();
    if (own_data && !config) config = read_run_config(*configuration_of(model), topic.c_str());
    if (!config || (checkpoint && !own_data)) return;
    experiment.held_out = options.takes_held_out(config->data);
    experiment.synthetic = config->data.kind != "text";
    data = experiment.held_out ? make_held_out(config->data, config->seed)
                               : make_batches(config->data, config->seed);
    config = resolve_vocabulary(*config, *data);
  });
  opening.collect([&] { options.input.open(model, input); });
  opening.raise();

  Provenance provenance;
  UsageProblems problems(topic);
  problems.collect([&] {
    if (checkpoint) {
      experiment.source = checkpoint_source(checkpoint);
      provenance = options.checkpoint.provenance(*checkpoint);
      experiment.options = options.checkpoint.compile_options(*checkpoint);
    } else {
      experiment.source = initial_source(*config);
      provenance = options.checkpoint.provenance(model, {});
      experiment.options = options.checkpoint.compile_options(*config);
    }
  });
  problems.collect([&] {
    if (!own_data) {
      experiment.batch =
          options.input.read(model, experiment.source.sizes.vocabulary, input, provenance);
      return;
    }
    const int64_t length = config->length;
    int64_t sequences = experiment.held_out ? options.input.batch : config->batch;
    if (options.input.behind) sequences += options.input.behind(length);
    if (experiment.held_out) check_held_out(topic, *data, sequences, length);
    provenance.input_kind = experiment.held_out ? "held-out data of the run" : "data of the run";
    experiment.batch = batch_of_run(*data, sequences, length);
  });
  problems.collect([&] {
    if (options.input.behind && experiment.batch.length > 0)
      experiment.behind =
          take_behind(topic, experiment.batch, options.input.behind(experiment.batch.length));
  });
  // A text that cannot be read still has a length.
  int64_t length = experiment.batch.length;
  if (length == 0 && !own_data && !options.input.is_shaped()) length = options.input.length;
  if (length > 0 && experiment.source.build) limits(experiment.source.sizes, length, problems);
  problems.raise();
  if (input) input->print_tokens();
  const TokenBatch& batch = experiment.batch;
  experiment.provenance =
      provenance_json(provenance, ids_of_batch(batch.tokens, batch.targets, batch.length));
  fmt::print("{}: {} layers, {} heads; {} x {} tokens{}\n", printable(experiment.source.sizes.name),
             experiment.source.sizes.layers, experiment.source.sizes.heads, batch.batch,
             batch.length,
             !own_data             ? ""
             : experiment.held_out ? ", held-out data of its run"
                                   : ", the first batch of its run");
  experiment.text = std::move(input);
  experiment.checkpoint = std::move(checkpoint);
  return experiment;
}

}  // namespace weir
