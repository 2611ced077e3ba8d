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

// The first batch of what a run is trained on, and `behind` sequences more.
TokenBatch batch_of_run(const RunConfig& config, const BatchSource& data, int64_t behind) {
  TokenBatch batch{config.batch + behind, config.length, {}, {}, {}};
  const auto count = static_cast<size_t>(batch.batch * config.length);
  batch.tokens.resize(count);
  batch.targets.resize(count);
  data.fill(0, batch.batch, config.length, batch.tokens.data(), batch.targets.data());
  return batch;
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
}

void ExperimentOptions::check(const OptionTable& table, UsageProblems& problems) const {
  const bool has_data = is_configuration(checkpoint.model) || configuration_of(checkpoint.model);
  if (table.given("--tokens") || table.given("--text") || !has_data) {
    input.check(table, problems);
    return;
  }
  for (const char* name :
       {"--batch", "--length", "--tokenizer", "--separator", "--begin-token", "--text-key"})
    if (table.given(name))
      problems.add(
          fmt::format("{} is of --text; without --tokens and --text the batch is the first "
                      "that the run is trained on.",
                      name));
}

Experiment Experiment::open(const std::string& topic, const ExperimentOptions& options,
                            const Limits& limits) {
  const std::string& model = options.checkpoint.model;
  const bool own_data = options.input.tokens.empty() && options.input.text.text.empty();
  std::shared_ptr<const Checkpoint> checkpoint;
  std::optional<RunConfig> config;
  std::optional<TextInput> input;
  std::unique_ptr<BatchSource> data;
  UsageProblems opening(topic);
  opening.collect([&] {
    if (is_configuration(model))
      config = read_run_config(model, topic.c_str());
    else
      checkpoint = options.checkpoint.open();
    if (own_data && !config) config = read_run_config(*configuration_of(model), topic.c_str());
    if (!config || (checkpoint && !own_data)) return;
    data = make_batches(config->data, config->seed);
    config = resolve_vocabulary(*config, *data);
  });
  opening.collect([&] { options.input.open(model, input); });
  opening.raise();

  Experiment experiment;
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
    provenance.input_kind = "data of the run";
    const int64_t behind = options.input.behind ? options.input.behind(config->length) : 0;
    experiment.batch = batch_of_run(*config, *data, behind);
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
             batch.length, own_data ? ", the first batch of its run" : "");
  experiment.text = std::move(input);
  experiment.checkpoint = std::move(checkpoint);
  return experiment;
}

}  // namespace weir
