// weir measure: what sinks, in a model as it is published.
#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/file.h"
#include "lab/experiments/checkpoint_series.h"
#include "lab/measure/measure.h"
#include "lab/measure/nonfinite.h"
#include "lab/measure/probe_tensors.h"
#include "lab/measure/token_input.h"
#include "lab/report/measure_report.h"
#include "lab/report/measure_summary.h"
#include "lab/report/profile_json.h"
#include "lab/train/run_folder.h"
#include "passes/probe_request.h"
#include "support/log.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "tools/measure_arguments.h"
#include "tools/outputs.h"
#include "tools/paths.h"
#include "tools/standard_output.h"

namespace weir {
namespace {

template <typename T>
bool whole_number(std::string_view text, T& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= 0;
}

bool is_sink(const std::string& text) {
  int64_t position = 0;
  return text == "auto" || whole_number(text, position);
}

std::optional<MapHead> head_of(const std::string& text) {
  const std::vector<std::string> parts = split(text, '.');
  MapHead head;
  if (parts.size() == 2 && whole_number(parts[0], head.first) &&
      whole_number(parts[1], head.second))
    return head;
  return std::nullopt;
}

bool is_head(const std::string& text) { return head_of(text).has_value(); }

}  // namespace

int64_t sink_of(const std::string& text) {
  int64_t sink = 0;
  WEIR_CHECK(whole_number(text, sink), "{} is no position", text);
  return sink;
}

std::string MeasureArguments::report_path() const {
  if (!report.empty()) return report;
  if (json.empty() || no_report) return "";
  return std::filesystem::path(json).replace_extension(".html").string();
}

std::vector<MapHead> MeasureArguments::heads() const {
  std::vector<MapHead> heads;
  for (const std::string& text : maps) heads.push_back(expect(head_of(text)));
  return heads;
}

std::vector<std::string> token_texts(const MeasureArguments& options, const Checkpoint& checkpoint,
                                     const TokenBatch& batch) {
  std::unique_ptr<Tokenizer> tokenizer;
  try {
    const std::string& given = options.input.text.tokenizer;
    tokenizer = given.empty() ? checkpoint.tokenizer() : load_tokenizer(given);
  } catch (const UserError& error) {
    log_warning("tokens appear as their ids: {}", error.what());
  }
  std::vector<std::string> texts;
  for (int32_t id : batch.tokens)
    texts.push_back(tokenizer ? printable_token(*tokenizer, id) : fmt::format("#{}", id));
  return texts;
}

void check_heads(const std::vector<MapHead>& heads, const MeasuredModel& sizes,
                 UsageProblems& problems) {
  for (const auto& [layer, head] : heads)
    if (layer >= sizes.layers || head >= sizes.heads)
      problems.add(fmt::format("--map {}.{}: the model has layers 0 to {} with heads 0 to {}.",
                               layer, head, sizes.layers - 1, sizes.heads - 1));
}

void check_sink(const MeasureArguments& options, int64_t length, UsageProblems& problems) {
  if (options.sink != "auto" && is_sink(options.sink) && sink_of(options.sink) >= length)
    problems.add(fmt::format("--sink-token is {}, but a sequence has the tokens 0 to {}.",
                             options.sink, length - 1));
}

void choose_sink(const MeasureArguments& options, const ModelSource& source,
                 const TokenBatch& batch, MeasureTask& task) {
  if (options.sink != "auto") {
    task.metrics.sink_token = sink_of(options.sink);
    return;
  }
  task.metrics.sink_token = heaviest_key(source, batch, task);
  fmt::print("The key with the largest mean mass is token {}.\n", task.metrics.sink_token);
}

int status_of(const std::string& record, const std::string& topic) {
  if (record.find("\"loss\":\"") == std::string::npos) return 0;  // numbers have no quotes
  const std::string loss = nlohmann::json::parse(record).at("loss").get<std::string>();
  print_error(fmt::format("[{}] the loss is {}; {}.", topic, loss, first_not_finite(record)));
  return 1;
}

namespace {

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
    fmt::print("\n{}Profile: {}\n", profile_lines(nlohmann::json::parse(profile), rows),
               printable(file));
  }

 private:
  KernelProfile kernels_;
  ProfileFacts facts_;
};

// Of a series everything is written that can be against the step.
void check_series(const MeasureArguments& options, const OptionTable& table,
                  UsageProblems& problems) {
  for (const std::string& word : options.checkpoint.models)
    if (models_behind(word).empty())
      problems.add_failure(
          fmt::format("--model: the pattern {} matches no folder and no .gguf file.", word));
  if (!names_series(options.checkpoint.models)) return;
  for (const char* name : {"--save-probes", "--profile"})
    if (table.given(name))
      problems.add(fmt::format(
          "{} is of one checkpoint, but --model names a series. Give it with one of them.", name));
}

// What must hold between the options.
void check_measure(const MeasureArguments& options, const OptionTable& table, Option& report_row,
                   UsageProblems& problems) {
  const bool cut = table.given("--text") || !options.input.is_shaped();
  if (cut && !table.refused("--length")) check_sink(options, options.input.length, problems);
  if (table.given("--profile") && options.checkpoint.interpret)
    problems.add("--profile times compiled kernels, of which --interpret has none.");
  if (table.given("--save-probes") && !table.given("--probe"))
    problems.add("--save-probes needs at least one --probe to save.");
  if (table.given("--probe-dtype") && !options.saved.ends_with(".safetensors"))
    problems.add(
        "--probe-dtype is of --save-probes FILE.safetensors; an .npz has f32, as NumPy has no "
        "bf16.");
  check_series(options, table, problems);
  const std::string report = options.report_path();
  if (table.given("--map") && report.empty())
    problems.add(
        "--map chooses an attention map of the report, but none is written. Give --report FILE.");
  const bool beside = !report.empty() && !table.given("--report");
  if (beside && report == options.json)
    problems.add(
        fmt::format("the report beside --json would be {} itself. Give --report FILE.", report));
  else if (beside && output_problem(options.json, false).empty())
    report_row.imply("the report", report);
  problems.collect([&] { parse_probe_requests(options.probes); });
  options.input.check(table, problems);
}

bool saves_tensors(const MeasureArguments& options) {
  return options.saved.ends_with(".safetensors");
}

void save_probes(const MeasureArguments& options, const MeasureResult& result) {
  if (saves_tensors(options)) {
    const std::map<std::string, FileDtype> types = {
        {"f32", FileDtype::f32}, {"f16", FileDtype::f16}, {"bf16", FileDtype::bf16}};
    write_probe_tensors(options.saved, result.kept, types.at(options.probe_dtype), result.record);
  } else {
    std::vector<std::string> ids;
    for (const auto& [id, value] : result.kept) ids.push_back(id);
    write_probes(options.saved, result.kept, ids);
  }
  fmt::print("Probes: {}\n", printable(options.saved));
}

int run_one(const MeasureArguments& options) {
  std::shared_ptr<const Checkpoint> checkpoint;
  std::optional<TextInput> input;
  UsageProblems opening("measure");
  opening.collect([&] { checkpoint = options.checkpoint.open(); });
  opening.collect([&] { options.input.open(options.checkpoint.model, input); });
  opening.raise();
  const ModelSource source = checkpoint_source(checkpoint);
  MeasureTask task{.probes = options.probes, .run = options.checkpoint.run_settings()};
  std::vector<MapHead> heads = options.heads();
  TokenBatch batch;
  Provenance provenance = options.checkpoint.provenance(*checkpoint);
  // What only the checkpoint can tell, still before anything is computed.
  UsageProblems problems("measure");
  check_heads(heads, source.sizes, problems);
  problems.collect([&] { task.options = options.checkpoint.compile_options(*checkpoint); });
  const auto check = [&](int64_t length) {
    problems.collect([&] { check_probes(source, length, task.options, options.probes); });
  };
  const bool shaped = options.input.is_shaped();
  if (!shaped) check(options.input.length);  // text may be long
  problems.collect([&] {
    batch = options.input.read(options.checkpoint.model, checkpoint->config().vocabulary, input,
                               provenance);
  });
  if (shaped && batch.length > 0) {
    check(batch.length);
    check_sink(options, batch.length, problems);
  }
  problems.raise();
  if (input) input->print_tokens();
  task.provenance =
      provenance_json(provenance, ids_of_batch(batch.tokens, batch.targets, batch.length));
  fmt::print("{}: {} layers, {} heads; {} x {} tokens\n", printable(source.sizes.name),
             source.sizes.layers, source.sizes.heads, batch.batch, batch.length);
  choose_sink(options, source, batch, task);
  const std::string report = options.report_path();
  if (!report.empty())
    task.kept = measure_report_bytes(batch.batch, batch.length,
                                     std::max<int64_t>(std::ssize(heads), kHeadsShown));
  MeasureResult result;
  int not_finite = 0;
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
    not_finite = finite_status(measurer.run().not_finite(), "measure");
  }
  if (!options.json.empty()) {
    write_file(options.json, result.record + "\n");
    fmt::print("Record: {}\n", printable(options.json));
  }
  if (!options.saved.empty()) save_probes(options, result);
  if (!report.empty()) {
    if (heads.empty()) heads = heads_to_show(result.record);
    write_measure_report(report, {.record = result.record,
                                  .command = command_line(),
                                  .token_texts = token_texts(options, *checkpoint, batch),
                                  .maps = attention_maps(source, batch, task, heads)});
    fmt::print("Report: {}\n",
               printable(std::filesystem::absolute(report).lexically_normal().string()));
  }
  return std::max(not_finite, status_of(result.record, "measure"));
}

int run_measure(const MeasureArguments& options) {
  if (names_series(options.checkpoint.models)) return run_series(options);
  MeasureArguments one = options;
  one.checkpoint.model = options.checkpoint.models.front();
  return run_one(one);
}

}  // namespace

void add_measure(Commands& commands) {
  auto options = std::make_shared<MeasureArguments>();
  OptionTable& table =
      add_command(commands, "measure",
                  "measure a checkpoint: attention sinks, massive activations, gradient sinks");
  options->checkpoint.add_to(table, true);
  options->input.add_to(table);
  table.flag("--no-report", options->no_report, "write no report beside --json");
  table
      .add("--sink-token", &options->sink, of_form("a position or auto", is_sink),
           "position of the sink, or auto: the key with the largest mean mass")
      .with_default();
  table.add("--json", &options->json, record_file("weir.measure"),
            "write the record weir.measure/1 here");
  Option& report = table.add("--report", &options->report, report_file(),
                             "write the report here; beside --json, as .html, if not given");
  table.add("--map", &options->maps, of_form("LAYER.HEAD, e.g. 12.3,", is_head),
            "LAYER.HEAD whose attention map the report shows; repeatable; the heads with the "
            "largest and the smallest sink mass if not given");
  table.add("--probe", &options->probes, some_text(),
            "a further probe, as `weir probes --help` explains; repeatable");
  table.add("--save-probes", &options->saved, probes_file(),
            "write the values of --probe to this .npz, under their names, or to this .safetensors, "
            "under the names of their hooks");
  table
      .add("--probe-dtype", &options->probe_dtype, one_of({"f32", "f16", "bf16"}),
           "element type of --save-probes FILE.safetensors")
      .with_default();
  table.add("--profile", &options->profile, record_file("weir.profile"),
            "write where the time went, kernel by kernel (weir.profile/1), here");
  table.flag("--overwrite", options->overwrite, kOverwriteMeaning);
  table.exclude("--no-report", "--report");
  table.check([options, &table, &report](UsageProblems& problems) {
    check_measure(*options, table, report, problems);
  });
  table.footer(
      "Gradients of weights are not computed. A begin token begins every sequence, which then has "
      "it and\nLENGTH - 1 tokens of the text. Examples:\n"
      "  weir measure --model SmolLM2-135M/ --text book.txt --json out.json\n"
      "  weir measure --model model.gguf --text book.txt --batch 8 --length 2048 --memory 8GiB\n"
      "  weir measure --model SmolLM2-135M/ --tokens ids.npy --json scaled.json --v-scale full\n"
      "  weir measure --model SmolLM2-135M/ --text book.txt --report sinks.html --map 12.3\n"
      "  weir measure --model SmolLM2-135M/ --text book.txt --save-probes v.npz \\\n"
      "      --probe 'blocks.*.attn.hook_v.grad : batch_sum, norm(feature)'\n"
      "  weir measure --model 'runs/text/run/checkpoints/*' --text book.txt --json steps.jsonl");
  table.action([options] { return run_measure(*options); });
}

}  // namespace weir
