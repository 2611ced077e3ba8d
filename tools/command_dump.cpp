// weir dump: a program's text at any stage.
#include <fmt/format.h>

#include <algorithm>

#include "codegen/executable.h"
#include "io/file.h"
#include "ir/dot.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "lab/train_graphs.h"
#include "passes/pipeline.h"
#include "passes/plan_memory.h"
#include "passes/probes.h"
#include "support/error.h"
#include "support/text.h"
#include "tools/model_options.h"

namespace weir {
namespace {

struct DumpArguments {
  std::string file;
  ModelOptions model;
  std::string stage;
  std::vector<std::string> probes, gradients;
  bool train = false, dot = false;
  std::string program;
};

struct Wanted {
  Stage stage = Stage::built;
  enum class Text : uint8_t { ir, llvm, assembly } text = Text::ir;
};

Wanted parse_wanted(const std::string& name) {
  if (name == "llvm") return {Stage::planned, Wanted::Text::llvm};
  if (name == "asm") return {Stage::planned, Wanted::Text::assembly};
  if (auto stage = parse_stage(name)) return {*stage, Wanted::Text::ir};
  std::vector<std::string> known = stage_names();
  known.insert(known.end(), {"llvm", "asm"});
  user_error("dump", "'{}' is no stage. Use {}.{}", name, join(known, ", "),
             did_you_mean(name, known));
}

// Whether "*" chooses something: a loss and a state of floating-point numbers.
bool is_trainable(const Graph& graph) {
  const auto& inputs = graph.inputs();
  return graph.find_output("loss") && std::any_of(inputs.begin(), inputs.end(), [&](int32_t id) {
           return graph.node(id).attrs.get_bool("state") && is_float(graph.node(id).types[0].dtype);
         });
}

GraphPtr from_file(const DumpArguments& options, const Target& target) {
  if (options.train)
    user_error("dump", "--train makes the step of a model; {} is a program as it is.",
               options.file);
  GraphPtr graph = parse_graph(read_file(options.file), options.file);
  verify_user(*graph, options.file);
  check_plan_user(*graph, options.file);
  if (options.stage.empty()) return graph;
  CompileOptions compile{.target = target, .gradients = options.gradients};
  if (compile.gradients.empty() && is_trainable(*graph)) compile.gradients = {"*"};
  compile.probes = options.probes;
  if (!options.model.v_scale.empty())
    compile.v_scale.variant = parse_v_scale_variant(options.model.v_scale);
  if (!options.model.attention.empty())
    compile.attention = parse_normalizer(options.model.attention);
  compile.stop = parse_wanted(options.stage).stage;
  return run_pipeline(graph, compile).graph;
}

GraphPtr from_model(const DumpArguments& options, const Target& target) {
  const RunConfig config = options.model.config();
  CompileOptions compile{.target = target, .gradients = {"*"}};
  if (!options.gradients.empty()) compile.gradients = options.gradients;
  compile.v_scale = config.v_scale;
  compile.attention = config.attention;
  compile.probes = options.probes;
  compile.stop = parse_wanted(options.stage.empty() ? "built" : options.stage).stage;
  Model model = built_model(config);
  if (compile.stop == Stage::built) {
    // A probe that matches nothing is an error at every stage.
    GraphPtr graph = run_pipeline(model.graph, compile).graph;
    resolve_probes(graph, parse_probe_requests(options.probes));
    return graph;
  }
  if (!options.train || compile.stop == Stage::differentiated)
    return run_pipeline(model.graph, compile).graph;
  RunConfig step_config = config;
  step_config.measure.probes = options.probes;
  step_config.measure.metrics = false;
  TrainingGraphs graphs = make_training_graphs(step_config, target, !options.probes.empty());
  const TrainingPrograms& programs = graphs.has_probes ? graphs.probed : graphs.plain;
  GraphPtr graph = programs.step;
  if (!graph)
    graph = options.program == "prepare"  ? programs.prepare
            : options.program == "finish" ? programs.finish
                                          : programs.micro;
  return run_pipeline(graph, {.target = target, .stop = compile.stop}).graph;
}

int run_dump(const DumpArguments& options) {
  const Target target = chosen_target(false);
  const Wanted wanted = parse_wanted(options.stage.empty() ? "built" : options.stage);
  if (options.dot && wanted.text != Wanted::Text::ir)
    user_error("dump", "--dot draws a graph, but stage {} is code. Use --stage planned.",
               options.stage);
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

void add_dump(CLI::App& app, Action& action) {
  auto options = std::make_shared<DumpArguments>();
  CLI::App* command = app.add_subcommand("dump", "print a program at any stage of compilation");
  command->add_option("file", options->file, "a graph as text; without one, --model");
  options->model.add_to(*command);
  command->add_option(
      "--stage", options->stage,
      join(stage_names(), ", ") + ", llvm or asm; default built, of a file as it is");
  command->add_option("--probe", options->probes, "a probe, GLOB[.grad] : reductions; repeatable")
      ->allow_extra_args(false);
  command
      ->add_option("--gradients", options->gradients,
                   "inputs to differentiate by; default all weights where there is a loss")
      ->allow_extra_args(false);
  command->add_flag("--train", options->train, "the training step, with its optimiser");
  command->add_flag("--dot", options->dot, "a drawing for Graphviz instead of text");
  command
      ->add_option("--program", options->program,
                   "of a step in micro-batches: prepare, micro (default) or finish")
      ->check(CLI::IsMember({"prepare", "micro", "finish"}));
  command->footer(
      "The text of every stage but llvm and asm is read back by `weir dump FILE`, to the same "
      "bytes.\n"
      "\nExamples:\n  weir dump --layers 2 > model.weir\n"
      "  weir dump model.weir --stage fused\n"
      "  weir dump --layers 1 --dot | dot -Tsvg > model.svg\n"
      "  weir dump --stage planned --train --v-scale learned\n"
      "  weir dump --stage instrumented --probe 'blocks.*.attn.hook_v.grad : batch_sum'\n"
      "  weir dump --set model.d_model=64 --set batch=2 --stage asm");
  command->callback([options, &action] { action = [options] { return run_dump(*options); }; });
}

}  // namespace weir
