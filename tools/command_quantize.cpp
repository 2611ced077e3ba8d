// weir quantize: what 8 and 4 bits do to a model, and how much of it is the sink token's work.
#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "lab/experiments/quantize.h"
#include "lab/measure/measure.h"
#include "lab/measure/token_input.h"
#include "lab/report/quantize_report.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "tools/experiment_model.h"
#include "tools/paths.h"
#include "tools/record_outputs.h"
#include "tools/standard_output.h"

// examples/persuasion.txt
extern "C" const char weir_asset_persuasion[], weir_asset_persuasion_end[];

namespace weir {
namespace {

constexpr const char* kOwnText = "persuasion.txt of Weir";

struct QuantizeArguments {
  RecordOutputs outputs;
  ExperimentOptions experiment;
  std::vector<std::string> text2;
  std::string tokens2, arms, sink = "0";
  int64_t draws = 5, draw_tokens = 2048, resamples = 2000;
  double smooth_alpha = 0.5, aware_alpha = 0.5, confidence = 0.95;
  uint64_t seed = 1;
  bool one_text = false;

  QuantizeArguments() {
    experiment.input.batch = 32;
    experiment.prefers_held_out = true;
    experiment.input.behind = [this](int64_t length) {
      return draws * ((draw_tokens + length - 1) / length);
    };
  }
  QuantizeArguments(const QuantizeArguments&) = delete;
};

std::vector<QuantizeArm> arms_of(const QuantizeArguments& options) {
  return arms_of_names(options.arms.empty() ? std::vector<std::string>{}
                                            : split(options.arms, ','));
}

void check_options(const QuantizeArguments& options, const OptionTable& table,
                   UsageProblems& problems) {
  options.experiment.check(table, problems);
  problems.collect([&] { arms_of(options); });
  if (table.given("--text2") && table.given("--tokens2"))
    problems.add("give either --tokens2 FILE.npy or --text2 FILE.");
  if (options.one_text && (table.given("--text2") || table.given("--tokens2")))
    problems.add("--one-text leaves the second text out. Give one of the two.");
  if (table.given("--text2") && !table.given("--text"))
    problems.add(
        "--text2 is tokenised as --text is, which is not given. Give --text, or "
        "--tokens2.");
}

std::string names_of(const std::vector<std::string>& words) {
  std::vector<std::string> names;
  for (const std::string& word : words)
    names.push_back(std::filesystem::path(word).filename().string());
  return join(names, ", ");
}

// The name of the first corpus in tables.
std::string first_name(const BatchOptions& input, bool held_out) {
  if (!input.text.text.empty()) return names_of(input.text.text);
  if (!input.tokens.empty()) return names_of({token_file(input.tokens).path});
  return held_out ? "held-out data of the run" : "data of the run";
}

// The record takes what is said of its input alone.
QuantizeCorpus corpus_of(std::string name, TokenBatch batch, const std::string& model,
                         Provenance provenance) {
  QuantizeCorpus corpus{std::move(name), std::move(batch), ""};
  provenance.model = model;
  corpus.provenance = provenance_json(
      provenance, ids_of_batch(corpus.batch.tokens, corpus.batch.targets, corpus.batch.length));
  return corpus;
}

// The text that Weir has with it, cut as the first one.
QuantizeCorpus own_text(const TextInput& input, const TokenBatch& batch, const std::string& model) {
  EncodedText text;
  text.add({weir_asset_persuasion, weir_asset_persuasion_end}, input.tokenizer(), input.tokens());
  Provenance provenance;
  provenance.input_kind = kOwnText;
  if (text.ids.size() < ids_of_windows(batch.batch, batch.length, input.tokens()))
    user_error("quantize",
               "the second text is {}, which has {} tokens, too few for {} sequences of {}. Give "
               "another one (--text2), none (--one-text), or a smaller --batch.",
               kOwnText, text.ids.size(), batch.batch, batch.length);
  return corpus_of(kOwnText, first_windows(text.ids, batch.batch, batch.length, input.tokens()),
                   model, provenance);
}

// The second text as the options name it, or Weir's own beside a text; nothing if there is none.
std::optional<QuantizeCorpus> second_corpus(const QuantizeArguments& options,
                                            const Experiment& experiment) {
  const std::string& model = options.experiment.checkpoint.model;
  if (options.text2.empty() && options.tokens2.empty()) {
    if (options.one_text || !experiment.text) return std::nullopt;
    return own_text(*experiment.text, experiment.batch, model);
  }
  BatchOptions second = options.experiment.input;
  second.behind = nullptr;
  second.text.text = options.text2;
  second.tokens = options.tokens2;
  second.batch = experiment.batch.batch;
  second.length = experiment.batch.length;
  std::optional<TextInput> input;
  second.open(model, input);
  Provenance provenance;
  TokenBatch batch = second.read(options.experiment.checkpoint.model,
                                 experiment.source.sizes.vocabulary, input, provenance);
  return corpus_of(options.tokens2.empty() ? names_of(options.text2)
                                           : names_of({token_file(options.tokens2).path}),
                   std::move(batch), model, provenance);
}

int run_quantize(const QuantizeArguments& options) {
  const auto sink = sink_position(options.sink);
  const Experiment experiment = Experiment::open(
      "quantize", options.experiment,
      [&](const MeasuredModel&, int64_t length, UsageProblems& problems) {
        if (sink && *sink >= length)
          problems.add(fmt::format("--sink-token is {}, but a sequence has the tokens 0 to {}.",
                                   *sink, length - 1));
      });
  std::vector<QuantizeCorpus> corpora = {{first_name(options.experiment.input, experiment.held_out),
                                          experiment.batch, experiment.provenance}};
  if (auto second = second_corpus(options, experiment)) corpora.push_back(std::move(*second));
  QuantizeTask task{.arms = arms_of(options),
                    .draws = options.draws,
                    .sink_token = sink.value_or(0),
                    .smooth_alpha = options.smooth_alpha,
                    .aware_alpha = options.aware_alpha,
                    .confidence = options.confidence,
                    .resamples = options.resamples,
                    .seed = options.seed,
                    .recalled = experiment.synthetic && corpora.size() == 1,
                    .options = experiment.options,
                    .run = options.experiment.checkpoint.run_settings(),
                    .provenance = experiment.provenance};
  if (!sink) {
    task.sink_token = heaviest_key(experiment.source, experiment.batch,
                                   {.options = task.options, .run = task.run});
    fmt::print("The key with the largest mean mass is token {}.\n", task.sink_token);
  }
  std::string record;
  int status = 0;
  {
    QuantizeExperiment quantize(experiment.source, corpora, experiment.behind, task);
    print_experiment_plan(quantize, task.run.interpret, experiment.batch.batch,
                          ", each with dynamic scales of its own");
    const QuantizeResult result = quantize.run();
    status = finite_status(quantize.not_finite(), "quantize");
    record = quantize_record(experiment.source.sizes, corpora, experiment.behind, task, result,
                             quantize.rows());
    fmt::print("\n{}", quantize_table(record));
    fmt::print("load {:.2f} s, {} evaluations in {:.1f} s", result.load_seconds, result.evaluations,
               result.run_seconds);
    if (!task.run.interpret)
      fmt::print("; memory {} used of {} stated",
                 human_bytes(static_cast<double>(peak_resident_memory())),
                 human_bytes(static_cast<double>(quantize.memory().total())));
    fmt::print("\n");
  }
  options.outputs.write_record(record);
  options.outputs.write_report(
      [&](const std::string& path) { write_quantize_report(path, record, command_line()); });
  return status;
}

void add_settings(OptionTable& table, QuantizeArguments& options) {
  table.add("--arms", &options.arms, some_text(),
            "arms, e.g. per-token,static; all if not given; docs/quantize.md lists them");
  table
      .add("--sink-token", &options.sink, sink_rule(),
           "token whose damage is told apart, or auto: the key with the largest mean mass")
      .with_default();
  table
      .add("--draws", &options.draws, within(1, 1000),
           "calibration draws behind the sequences of the first text, of which static scales come")
      .with_default();
  table
      .add("--draw-tokens", &options.draw_tokens, within(1, 1 << 24),
           "tokens of a draw, rounded up to whole sequences")
      .with_default();
  table
      .add("--smooth-alpha", &options.smooth_alpha, within(0, 1),
           "of SmoothQuant: how much of the difficulty moves to the weights")
      .with_default();
  table
      .add("--aware-alpha", &options.aware_alpha, within(0, 1),
           "of activation-aware scales of weights: the power of mean |x|")
      .with_default();
  table
      .add("--confidence", &options.confidence, within(0.5, 0.9999),
           "of bootstrap intervals over sequences")
      .with_default();
  table.add("--resamples", &options.resamples, within(10, 1e6), "of the bootstrap").with_default();
  table.add("--seed", &options.seed, within(0, 9e15), "of the bootstrap").with_default();
}

}  // namespace

void add_quantize(Commands& commands) {
  auto options = std::make_shared<QuantizeArguments>();
  OptionTable& table =
      add_command(commands, "quantize",
                  "round a checkpoint's weights and activations to 8 and 4 bits and measure what "
                  "is lost");
  options->experiment.add_to(table);
  table.add("--text2", &options->text2, text_files_rule(),
            "second text, tokenised as the first; six chapters of a novel that Weir has with it "
            "if not given beside --text");
  table.add("--tokens2", &options->tokens2, token_file_rule(), "token ids of a second text");
  table.flag("--one-text", options->one_text, "evaluate on --text alone");
  add_settings(table, *options);
  options->outputs.add_json(table, "weir.quantize");
  options->outputs.add_report(table);
  table.check(
      [options, &table](UsageProblems& problems) { check_options(*options, table, problems); });
  table.footer(
      "Products of the blocks are computed as an integer engine would; docs/quantize.md explains "
      "the arms.\nSink damage is the loss that the sink token's share in the scales costs. "
      "Examples:\n"
      "  weir quantize --model SmolLM2-135M/ --text wiki.txt --json quantize.json\n"
      "  weir quantize --model model.gguf --text wiki.txt --text2 book.txt --batch 32 --length "
      "256\n"
      "  weir quantize --model SmolLM2-135M/ --text wiki.txt --arms per-token,static "
      "--sink-token auto\n"
      "  weir quantize --model runs/recall/run/checkpoints/step001000 --batch 128 --json "
      "needle.json");
  table.action([options] { return run_quantize(*options); });
}

}  // namespace weir
