// weir dial: an assumed cause of gradient sinks turned up and down in a model.
#include <fmt/format.h>

#include <optional>

#include "lab/experiments/dial.h"
#include "lab/measure/measure.h"
#include "lab/report/dial_report.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "tools/experiment_model.h"
#include "tools/paths.h"
#include "tools/record_outputs.h"
#include "tools/standard_output.h"

namespace weir {
namespace {

struct DialArguments {
  RecordOutputs outputs;
  ExperimentOptions experiment;
  std::string dial, form, branch = "attn", values, upstream = "both", sink = "0";
  std::vector<int64_t> layers, heads;
  int64_t random = 4;
  uint64_t seed = 1;
  double confidence = 0.95;
};

// The value of an enum whose name was given; names are checked by the table.
template <typename Enum, size_t count>
Enum named(const std::string& text, const Enum (&all)[count], const char* (*name)(Enum)) {
  for (Enum one : all)
    if (text == name(one)) return one;
  internal_error_at("no name: " + text);
}

Dial dial_of(const DialArguments& options) {
  constexpr Dial all[] = {Dial::mass, Dial::norm, Dial::value, Dial::position, Dial::mask};
  return named(options.dial, all, dial_name);
}

// The one given, or the usual one of the dial; any for a dial without forms.
DialForm form_of(const DialArguments& options) {
  constexpr DialForm all[] = {DialForm::logit, DialForm::multiply, DialForm::branch,
                              DialForm::stream};
  if (!options.form.empty()) return named(options.form, all, form_name);
  const std::vector<DialForm> forms = forms_of(dial_of(options));
  return forms.empty() ? DialForm::logit : forms.front();
}

std::vector<Upstream> upstream_of(const std::string& text) {
  if (text == "both") return {Upstream::frozen, Upstream::recomputed};
  constexpr Upstream all[] = {Upstream::frozen, Upstream::recomputed};
  return {named(text, all, upstream_name)};
}

DialBranch branch_of(const std::string& text) {
  constexpr DialBranch all[] = {DialBranch::attention, DialBranch::mlp};
  return named(text, all, branch_name);
}

// What only the length of a sequence tells.
void read_values(const DialArguments& options, int64_t length, DialTask& task,
                 UsageProblems& problems) {
  task.dial = dial_of(options);
  task.form = form_of(options);
  if (options.sink != kAutoSink) task.sink_token = sink_position(options.sink).value_or(0);
  const auto parse = [&] {
    task.values = options.values.empty()
                      ? default_values(task.dial, task.form, task.sink_token, length,
                                       options.random, options.seed)
                      : parse_values(split(options.values, ','), task.dial, task.form,
                                     task.sink_token, length, options.random, options.seed);
  };
  problems.collect(parse);
}

// What must hold between the options.
void check_options(const DialArguments& options, const OptionTable& table,
                   UsageProblems& problems) {
  options.experiment.check(table, problems);
  if (table.refused("--dial") || options.dial.empty()) return;
  const Dial dial = dial_of(options);
  const std::vector<DialForm> forms = forms_of(dial);
  if (table.given("--form") && !table.refused("--form") &&
      std::find(forms.begin(), forms.end(), form_of(options)) == forms.end())
    problems.add(forms.empty()
                     ? fmt::format("--form {}: the {} dial has no forms. Leave it out.",
                                   options.form, options.dial)
                     : fmt::format("--form {}: the {} dial has the forms {} and {}.", options.form,
                                   options.dial, form_name(forms[0]), form_name(forms[1])));
  if (table.given("--branch") && dial != Dial::norm)
    problems.add(
        fmt::format("--branch chooses a norm, of which the {} dial has none.", options.dial));
  if (table.given("--head") && dial == Dial::norm)
    problems.add("--head: the norm dial is of a whole layer. Leave it out.");
  if (options.upstream == upstream_name(Upstream::frozen) && !has_upstream(dial, Upstream::frozen))
    problems.add(
        fmt::format("--upstream frozen: the {} dial is about the loss or about g itself, so that "
                    "g is recomputed.",
                    options.dial));
  if (table.given("--values") && !table.refused("--values") && options.values.empty())
    problems.add("--values is empty. Name some, or leave it out.");
  for (const char* name : {"--random", "--seed"})
    if (table.given(name) && dial != Dial::mask)
      problems.add(fmt::format("{} chooses keys of the mask dial, not of {}.", name, options.dial));
}

int run_dial(const DialArguments& options) {
  DialTask task{.layers = options.layers,
                .heads = options.heads,
                .upstream = upstream_of(options.upstream),
                .confidence = options.confidence,
                .seed = options.seed,
                .run = options.experiment.checkpoint.run_settings()};
  task.branch = branch_of(options.branch);
  const Experiment experiment =
      Experiment::open("dial", options.experiment,
                       [&](const MeasuredModel& sizes, int64_t length, UsageProblems& problems) {
                         UsageProblems values("dial");
                         read_values(options, length, task, values);
                         problems.collect([&] { values.raise(); });
                         if (values.empty())
                           problems.collect([&] { check_dial(task, sizes, length); });
                       });
  const ModelSource& source = experiment.source;
  const TokenBatch& batch = experiment.batch;
  task.options = experiment.options;
  task.provenance = experiment.provenance;
  if (options.sink == kAutoSink) {
    task.sink_token = heaviest_key(source, batch, {.options = task.options, .run = task.run});
    fmt::print("The key with the largest mean mass is token {}.\n", task.sink_token);
    UsageProblems values("dial");
    read_values(options, batch.length, task, values);
    values.raise();
  }
  std::string record;
  DialResult result;
  int status = 0;
  {
    Dialler dialler(source, batch, task);
    print_experiment_plan(dialler, task.run.interpret, batch.batch);
    result = dialler.run();
    status = finite_status(dialler.not_finite(), "dial");
    record = dial_record(source.sizes, batch, dialler.task(), result);
    fmt::print("\n{}", dial_table(record));
    fmt::print("load {:.2f} s, run {:.1f} s", result.load_seconds, result.run_seconds);
    if (!task.run.interpret)
      fmt::print("; memory {} used of {} stated",
                 human_bytes(static_cast<double>(peak_resident_memory())),
                 human_bytes(static_cast<double>(dialler.memory().total())));
    fmt::print("\n");
  }
  options.outputs.write_record(record);
  options.outputs.write_report(
      [&](const std::string& path) { write_dial_report(path, record, command_line()); });
  for (const DialCheck& one : result.checks)
    if (!one.holds) {
      print_error(fmt::format("[dial] {} does not hold at {}: {} where at most {} is allowed.",
                              one.name, one.where, shortest(one.worst), shortest(one.limit)));
      status = 1;
    }
  return status;
}

}  // namespace

void add_dial(Commands& commands) {
  auto options = std::make_shared<DialArguments>();
  OptionTable& table = add_command(
      commands, "dial", "turn an assumed cause of gradient sinks up and down in a checkpoint");
  options->experiment.checkpoint.add_to(table);
  table
      .add("--dial", &options->dial, one_of({"mass", "norm", "value", "position", "mask"}),
           "what is turned: attention on the sink; the norm of its residual stream; its value "
           "vector; which token is offered as sink; keys that are blocked")
      .needed();
  table.add("--form", &options->form, one_of({"logit", "multiply", "branch", "stream"}),
            "of mass: an additive logit, or the weights multiplied; of norm: the branch's input "
            "alone, or the stream; the first one if not given");
  table.add("--branch", &options->branch, one_of({"attn", "mlp"}), "whose norm is dialled")
      .with_default();
  table.add("--layer", &options->layers, within(0, 1 << 20),
            "layers, e.g. 3,7, each dialled alone; all if not given");
  table.add("--head", &options->heads, within(0, 1 << 20),
            "query heads that are dialled together; all if not given");
  table.add("--values", &options->values, any_text(),
            "settings, e.g. --values=-2,0,2; of position keys; of mask sink, middle, last-four, "
            "random and keys; docs/dial.md lists those that are taken if not given");
  table
      .add("--upstream", &options->upstream, one_of({"frozen", "recomputed", "both"}),
           "g, the gradient at the layer's attention: that of the unchanged model, or what the "
           "changed model gives")
      .with_default();
  table
      .add("--sink-token", &options->sink, sink_rule(),
           "key or token that is dialled, or auto: the key with the largest mean mass")
      .with_default();
  table.add("--random", &options->random, within(0, 1000), "random keys of the mask dial")
      .with_default();
  table.add("--seed", &options->seed, within(0, 9e15), "of random keys").with_default();
  table
      .add("--confidence", &options->confidence, within(0.5, 0.9999),
           "of the interval of a fitted exponent")
      .with_default();
  options->experiment.input.add_to(table);
  options->experiment.add_data(table);
  options->outputs.add_json(table, "weir.dial");
  options->outputs.add_report(table);
  table.check(
      [options, &table](UsageProblems& problems) { check_options(*options, table, problems); });
  table.footer(
      "Weights and tokens stay; what lies before a layer is computed once. A claim that holds "
      "exactly and\nfails here is named by layer and head, and the exit status is 1. docs/dial.md "
      "explains the dials. Examples:\n"
      "  weir dial --model SmolLM2-135M/ --text book.txt --dial mass --layer 8 --json mass.json\n"
      "  weir dial --model model.gguf --text book.txt --dial mass --upstream frozen\n"
      "  weir dial --model SmolLM2-135M/ --text book.txt --dial mass --form multiply\n"
      "  weir dial --model SmolLM2-135M/ --text book.txt --dial norm --form stream --branch mlp\n"
      "  weir dial --model SmolLM2-135M/ --tokens ids.npy --dial mask --values sink,random "
      "--random 8");
  table.action([options] { return run_dial(*options); });
}

}  // namespace weir
