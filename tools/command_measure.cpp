// weir measure: what sinks, in a model as it is published.
#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/file.h"
#include "lab/measure.h"
#include "lab/measure_report.h"
#include "lab/measure_summary.h"
#include "lab/profile_json.h"
#include "lab/run_folder.h"
#include "lab/token_input.h"
#include "support/error.h"
#include "support/log.h"
#include "support/text.h"
#include "tools/checkpoint_options.h"

namespace weir {
namespace {

struct MeasureArguments {
  CheckpointOptions checkpoint;
  std::string tokens, text, sink = "0", json, report, saved, profile;
  int64_t batch = 4, length = 256;
  bool no_report = false;
  std::vector<std::string> probes, maps;
};

TokenBatch input_of(const MeasureArguments& options, const Checkpoint& checkpoint) {
  if (options.tokens.empty() == options.text.empty())
    user_error("measure", "give either --tokens FILE.npy or --text FILE.");
  if (!options.tokens.empty())
    return read_token_array(options.tokens, checkpoint.config().vocabulary);
  const auto tokenizer = checkpoint.tokenizer();
  return first_windows(text_ids(text_files(options.text), *tokenizer), options.batch,
                       options.length);
}

int64_t sink_of(const std::string& text) {
  int64_t sink = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), sink);
  if (error != std::errc() || end != text.data() + text.size() || sink < 0)
    user_error("measure", "--sink-token is '{}', but a position or auto is needed.", text);
  return sink;
}

// "LAYER.HEAD" of every --map.
std::vector<std::pair<int64_t, int64_t>> chosen_heads(const std::vector<std::string>& texts) {
  std::vector<std::pair<int64_t, int64_t>> heads;
  for (const std::string& text : texts) {
    const auto parts = split(text, '.');
    int64_t numbers[2] = {-1, -1};
    for (size_t i = 0; i < parts.size() && parts.size() == 2; ++i)
      std::from_chars(parts[i].data(), parts[i].data() + parts[i].size(), numbers[i]);
    if (numbers[0] < 0 || numbers[1] < 0)
      user_error("measure", "--map is '{}', but LAYER.HEAD is needed, e.g. 12.3.", text);
    heads.emplace_back(numbers[0], numbers[1]);
  }
  return heads;
}

// The text of every token of the batch, or its id where there is no tokenizer.
std::vector<std::string> token_texts(const Checkpoint& checkpoint, const TokenBatch& batch) {
  std::unique_ptr<Tokenizer> tokenizer;
  try {
    tokenizer = checkpoint.tokenizer();
  } catch (const UserError& error) {
    log_warning("tokens appear as their ids: {}", error.what());
  }
  std::vector<std::string> texts;
  for (int32_t id : batch.tokens)
    texts.push_back(tokenizer ? printable_token(*tokenizer, id) : fmt::format("#{}", id));
  return texts;
}

std::string report_path(const MeasureArguments& options) {
  if (!options.report.empty()) return options.report;
  if (options.json.empty() || options.no_report) return "";
  return std::filesystem::path(options.json).replace_extension(".html").string();
}

// Where the time of a measurement goes: a file, and the most expensive kernels in the terminal.
class MeasureProfile {
 public:
  MeasureProfile(const ModelRun& run, const Target& target, const std::string& model)
      : kernels_(run.programs()), facts_(measured_facts(target, run.threads())) {
    facts_.what = model;
    facts_.steps = 1;
  }
  ProfileSink sink() { return kernels_.sink(); }
  void write(const std::string& file, double run_seconds) {
    constexpr size_t rows = 12;
    facts_.step_seconds = run_seconds;
    const std::string profile = profile_json(kernels_.times(), facts_);
    write_file(file, profile + "\n");
    fmt::print("\n{}Profile: {}\n", profile_lines(nlohmann::json::parse(profile), rows), file);
  }

 private:
  KernelProfile kernels_;
  ProfileFacts facts_;
};

int run_measure(const MeasureArguments& options) {
  if (!options.profile.empty() && options.checkpoint.interpret)
    user_error("measure", "--profile times compiled kernels, of which --interpret has none.");
  const auto checkpoint = options.checkpoint.open();
  const ModelSource source = checkpoint_source(checkpoint);
  const TokenBatch batch = input_of(options, *checkpoint);
  MeasureTask task{.options = options.checkpoint.compile_options(*checkpoint),
                   .probes = options.probes,
                   .run = options.checkpoint.run_settings()};
  std::vector<std::pair<int64_t, int64_t>> heads = chosen_heads(options.maps);
  fmt::print("{}: {} layers, {} heads; {} x {} tokens\n", source.sizes.name, source.sizes.layers,
             source.sizes.heads, batch.batch, batch.length);
  if (options.sink == "auto") {
    task.metrics.sink_token = heaviest_key(source, batch, task);
    fmt::print("The key with the largest mean mass is token {}.\n", task.metrics.sink_token);
  } else {
    task.metrics.sink_token = sink_of(options.sink);
  }
  const std::string report = report_path(options);
  if (!report.empty())
    task.kept = measure_report_bytes(batch.batch, batch.length,
                                     std::max<int64_t>(std::ssize(heads), kHeadsShown));
  MeasureResult result;
  {
    Measurer measurer(source, batch, task);
    print_plan(measurer.run());
    std::optional<MeasureProfile> profile;
    if (!options.profile.empty())
      profile.emplace(measurer.run(), task.options.target, source.sizes.name);
    result = measurer.measure(profile ? profile->sink() : ProfileSink());
    fmt::print("\n{}", measure_table(result.record));
    print_costs(measurer.run(), result.load_seconds, result.run_seconds,
                batch.batch * batch.length);
    if (profile) profile->write(options.profile, result.run_seconds);
  }
  if (!options.json.empty()) {
    write_file(options.json, result.record + "\n");
    fmt::print("Record: {}\n", options.json);
  }
  if (!options.saved.empty()) {
    std::vector<std::string> ids;
    for (const auto& [id, value] : result.kept) ids.push_back(id);
    if (ids.empty()) user_error("measure", "--save-probes needs at least one --probe to save.");
    write_probes(options.saved, result.kept, ids);
    fmt::print("Probes: {}\n", options.saved);
  }
  if (!report.empty()) {
    if (heads.empty()) heads = heads_to_show(result.record);
    write_measure_report(report, {.record = result.record,
                                  .command = command_line(),
                                  .token_texts = token_texts(*checkpoint, batch),
                                  .maps = attention_maps(source, batch, task, heads)});
    fmt::print("Report: {}\n", std::filesystem::absolute(report).lexically_normal().string());
  }
  return 0;
}

}  // namespace

void add_measure(CLI::App& app, Action& action) {
  auto options = std::make_shared<MeasureArguments>();
  CLI::App* command = app.add_subcommand(
      "measure", "measure a checkpoint: attention sinks, massive activations, gradient sinks");
  options->checkpoint.add_to(*command);
  command->add_option("--tokens", options->tokens,
                      "NumPy array [batch, length + 1] of token ids, int32 or int64");
  command->add_option("--text", options->text,
                      "text to tokenise instead: files, folders or globs, divided by commas");
  command->add_option("--batch", options->batch, "sequences of --text")->capture_default_str();
  command->add_option("--length", options->length, "tokens of a sequence")->capture_default_str();
  command->add_flag("--no-report", options->no_report, "write no report beside --json");
  command->add_option("--sink-token", options->sink,
                      "position of the sink, or auto: the key with the largest mean mass");
  command->add_option("--json", options->json, "write the record weir.measure/1 here");
  command->add_option("--report", options->report,
                      "write the report here; default: beside --json, as .html");
  command
      ->add_option("--map", options->maps,
                   "LAYER.HEAD whose attention map the report shows; repeatable; default: the "
                   "heads with the largest and the smallest sink mass")
      ->allow_extra_args(false);
  command
      ->add_option("--probe", options->probes,
                   "a further probe, as `weir probes --help` explains; repeatable")
      ->allow_extra_args(false);
  command->add_option("--save-probes", options->saved,
                      "write the values of --probe to this .npz, under their names");
  command->add_option("--profile", options->profile,
                      "write where the time went, kernel by kernel (weir.profile/1), here");
  command->footer(
      "Gradients of weights are not computed. Examples:\n"
      "  weir measure --model SmolLM2-135M/ --text book.txt --json out.json\n"
      "  weir measure --model model.gguf --text book.txt --batch 8 --length 2048 --memory 8GiB\n"
      "  weir measure --model SmolLM2-135M/ --tokens ids.npy --json scaled.json --v-scale full\n"
      "  weir measure --model SmolLM2-135M/ --text book.txt --report sinks.html --map 12.3\n"
      "  weir measure --model SmolLM2-135M/ --text book.txt --save-probes v.npz \\\n"
      "      --probe 'blocks.*.attn.hook_v.grad : batch_sum, norm(feature)'");
  command->callback([options, &action] { action = [options] { return run_measure(*options); }; });
}

}  // namespace weir
