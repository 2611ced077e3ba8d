// weir dump: a program's text at any stage.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "engine/executable.h"
#include "io/file.h"
#include "ir/dot.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "lab/train/train_graphs.h"
#include "passes/pipeline.h"
#include "passes/plan_memory.h"
#include "passes/probes.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "support/value_rule.h"
#include "tools/model_options.h"

namespace weir {
namespace {

struct DumpArguments {
  std::string file;
  ModelOptions model;
  std::string stage;
  std::vector<std::string> probes, gradients;
  bool train = false, measure = false, dot = false;
  std::string program;
};

struct Wanted {
  Stage stage = Stage::built;
  enum class Text : uint8_t { ir, llvm, assembly } text = Text::ir;
};

Wanted parse_wanted(const std::string& name) {
  if (name == "llvm") return {Stage::planned, Wanted::Text::llvm};
  if (name == "asm") return {Stage::planned, Wanted::Text::assembly};
  return {expect(parse_stage(name)), Wanted::Text::ir};
}

// A graph of any stage can be printed, but code comes from the last one alone.
void set_stage(CompileOptions& compile, const std::string& name) {
  const Wanted wanted = parse_wanted(name);
  compile.stop = wanted.stage;
  compile.may_stop = wanted.text == Wanted::Text::ir;
}

// Whether "*" chooses something: a loss and a state of floating-point numbers.
bool is_trainable(const Graph& graph) {
  const auto& inputs = graph.inputs();
  return graph.find_output("loss") && std::any_of(inputs.begin(), inputs.end(), [&](int32_t id) {
           return graph.node(id).attrs.get_bool("state") && is_float(graph.node(id).types[0].dtype);
         });
}

GraphPtr from_file(const DumpArguments& options, const Target& target) {
  GraphPtr graph = parse_graph(read_file(options.file), options.file);
  verify_user(*graph, options.file);
  check_plan_user(*graph, options.file);
  if (options.stage.empty()) return graph;
  CompileOptions compile{.target = target, .gradients = options.gradients};
  if (compile.gradients.empty() && is_trainable(*graph)) compile.gradients = {"*"};
  compile.probes = options.probes;
  options.model.rewrites.apply(compile.rewrites, std::numeric_limits<int64_t>::max());
  set_stage(compile, options.stage);
  return run_pipeline(graph, compile).graph;
}

// The program asked for of those that a pipeline makes.
GraphPtr chosen(const std::vector<GraphPtr>& programs, const DumpArguments& options) {
  if (programs.size() == 1) return programs[0];
  return options.program == "prepare"  ? programs[0]
         : options.program == "finish" ? programs[2]
                                       : programs[1];
}

// The programs are those that train and measure run.
GraphPtr from_model(const DumpArguments& options, const Target& target) {
  const RunConfig config = options.model.config();
  if (!options.program.empty() && config.micro_batches == 1)
    throw UsageError(
        fmt::format("[dump] --program {}: the step is one program. Give --set micro_batches=N with "
                    "N > 1.",
                    options.program));
  const Model model = built_model(config);
  CompileOptions compile{.target = target, .gradients = {"*"}, .rewrites = config.rewrites};
  if (options.train) {
    const GraphPtr rewritten = apply_rewrites(model.graph, config.rewrites);
    compile = training_options(config, trained_parameters(model, *rewritten), target);
  }
  if (options.measure)
    compile.compose = {.purpose = Purpose::measure, .parts = config.micro_batches};
  if (!options.gradients.empty()) compile.gradients = options.gradients;
  compile.probes = options.probes;
  if (!config.memory.empty()) compile.memory = expect(parse_bytes(config.memory));
  set_stage(compile, options.stage.empty() ? "built" : options.stage);
  const std::vector<GraphPtr> programs = run_pipeline(model.graph, compile).programs;
  // A probe that matches nothing is an error at every stage.
  if (compile.stop == Stage::built)
    resolve_probes(programs[0], parse_probe_requests(options.probes));
  return chosen(programs, options);
}

// What would be ignored beside a file, or beside another option.
void check_dump(const DumpArguments& options, const OptionTable& table, UsageProblems& problems) {
  if (table.given("file"))
    for (const std::string& name : options.model.given())
      problems.add(
          fmt::format("{} chooses a model, but {} is a program as it is. Give one of them.", name,
                      short_text(options.file)));
  const bool as_it_is = table.given("file") && !table.given("--stage");
  if (as_it_is &&
      (options.model.rewrites.any_given() || table.given("--probe") || table.given("--gradients")))
    problems.add(fmt::format(
        "a rewrite, --probe or --gradients changes {} on its way to a stage. Give --stage, too.",
        short_text(options.file)));
  if (table.given("--program") && !options.train && !options.measure)
    problems.add("--program chooses a part of what is trained or measured. Give --train, too.");

  problems.collect([&] { parse_probe_requests(options.probes); });
  if (options.dot && (options.stage == "llvm" || options.stage == "asm"))
    problems.add(fmt::format("--dot draws a graph, but stage {} is code. Use --stage planned.",
                             options.stage));
}

int run_dump(const DumpArguments& options) {
  const Target target = chosen_target(false);
  const Wanted wanted = parse_wanted(options.stage.empty() ? "built" : options.stage);
  GraphPtr graph = options.file.empty() ? from_model(options, target) : from_file(options, target);
  switch (wanted.text) {
    case Wanted::Text::ir:
      fmt::print("{}", options.dot ? to_dot(*graph) : print_graph(*graph));
      break;
    case Wanted::Text::llvm:
      fmt::print("{}", dump_llvm(*graph, target));
      break;
    case Wanted::Text::assembly:
      fmt::print("{}", dump_assembly(*graph, target));
      break;
  }
  return 0;
}

}  // namespace

void add_dump(Commands& commands) {
  auto options = std::make_shared<DumpArguments>();
  OptionTable& table = add_command(commands, "dump", "print a program at any stage of compilation");
  table.add("file", &options->file, input_path(), "a graph as text; without one, --model");
  options->model.add_to(table);
  std::vector<std::string> stages = stage_names();
  stages.insert(stages.end(), {"llvm", "asm"});
  table.add("--stage", &options->stage, one_of(stages),
            "what to print; built of a model, a file as it is, if not given");
  table.add("--probe", &options->probes, some_text(),
            "a probe, GLOB[.grad] : reductions; repeatable");
  table.add("--gradients", &options->gradients, some_text(),
            "inputs to differentiate by, a glob; all weights where there is a loss, if not given");
  table.flag("--train", options->train, "the training step, with its optimiser");
  table.flag("--measure", options->measure,
             "the measurement of the probes, in as many parts as micro_batches says");
  table.flag("--dot", options->dot, "a drawing for Graphviz instead of text");
  table.add("--program", &options->program, one_of({"prepare", "micro", "finish"}),
            "of a batch in parts; micro if not given");
  table.exclude("file", "--train");
  table.exclude("file", "--measure");
  table.exclude("--train", "--measure");
  table.exclude("--train", "--gradients");
  table.exclude("--measure", "--gradients");
  table.check(
      [options, &table](UsageProblems& problems) { check_dump(*options, table, problems); });
  table.footer(
      "The text of every stage but llvm and asm is read back by `weir dump FILE`, to the same "
      "bytes.\n"
      "\nExamples:\n  weir dump --layers 2 > model.weir\n"
      "  weir dump model.weir --stage fused\n"
      "  weir dump --layers 1 --dot | dot -Tsvg > model.svg\n"
      "  weir dump --stage planned --train --v-scale learned\n"
      "  weir dump --stage instrumented --measure --probe 'blocks.*.attn.hook_v.grad : batch_sum'\n"
      "  weir dump --set model.d_model=64 --set batch=2 --stage asm");
  table.action([options] { return run_dump(*options); });
}

}  // namespace weir
