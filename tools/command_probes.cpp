// weir probes: what can be probed.
#include <fmt/format.h>

#include <algorithm>

#include "lab/measure/model_source.h"
#include "lab/train/train_graphs.h"
#include "passes/probes.h"
#include "support/error.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "tools/model_options.h"

namespace weir {
namespace {

struct ProbesArguments {
  ModelOptions model;
  std::string glob = "*";
};

// With the sequences that `weir measure` takes of a text.
GraphPtr graph_of(const ModelOptions& options) {
  constexpr int64_t batch = 4, length = 256;
  if (!options.names_checkpoint()) {
    const RunConfig config = options.config();
    return apply_rewrites(built_model(config).graph, config.rewrites);
  }
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  Rewrites rewrites = trained_rewrites(checkpoint);
  options.rewrites.apply(rewrites, checkpoint.config().layers);
  return apply_rewrites(
      checkpoint.build(batch, std::min(length, checkpoint.config().context)).graph, rewrites);
}

int run_probes(const ProbesArguments& options) {
  const GraphPtr graph = graph_of(options.model);
  std::vector<Hook> hooks = list_hooks(graph);
  std::vector<std::string> names;
  size_t name_width = 4, type_width = 4;
  for (const Hook& hook : hooks) {
    names.push_back(hook.name);
    if (!glob_match(options.glob, hook.name)) continue;
    name_width = std::max(name_width, hook.name.size());
    type_width = std::max(type_width, to_string(hook.type).size());
  }
  std::string text;
  for (const Hook& hook : hooks)
    if (glob_match(options.glob, hook.name))
      text +=
          fmt::format("{:<{}}  {:<{}}  {:<4}  {}\n", hook.name, name_width, to_string(hook.type),
                      type_width, hook.has_gradient ? "yes" : "no", join(hook.axes, ", "));
  if (text.empty())
    throw UsageError(fmt::format("[probes] no hook matches '{}'.{}", options.glob,
                                 did_you_mean(options.glob, names)));
  fmt::print("{:<{}}  {:<{}}  grad  axes\n{}", "hook", name_width, "type", type_width, text);
  return 0;
}

}  // namespace

void add_probes(Commands& commands) {
  auto options = std::make_shared<ProbesArguments>();
  OptionTable& table = add_command(
      commands, "probes", "list the hooks of a model: name, shape, whether NAME.grad exists, axes");
  options->model.add_to(table, true);
  table.check([options, &table](UsageProblems& problems) {
    for (const char* name : {"--layers", "--set"})
      if (table.given(name) && options->model.names_checkpoint())
        problems.add(fmt::format("{} changes a named model; {} is a checkpoint as it is.", name,
                                 options->model.model));
  });
  table.add("glob", &options->glob, some_text(), "only names that match, e.g. 'blocks.0.attn.*'");
  table.footer(
      "A probe reads GLOB[.grad] : reduction, reduction ..., e.g.\n"
      "  blocks.*.attn.hook_v.grad : batch_sum, norm(feature), mean(head)\n"
      "Reductions: batch_sum, sum(axes), mean(axes), max(axes), min(axes), norm(axes), abs, "
      "square,\n"
      "select(axis=i), select(axis=i..j), slice(axis,start,limit); of an attention pattern\n"
      "column_mass, column_square, entropy, row_max, sink_column(key), all of weights / row sum,\n"
      "row_sum, and map(n), means over at most n x n cells (n to 256), before which\n"
      "slice(head,i,i+1) and slices of the batch may stand.\n\nExamples:\n  weir probes\n  "
      "weir probes --layers 2 'blocks.1.*'\n"
      "  weir probes --model SmolLM2-135M/ '*.hook_v'\n"
      "  weir probes --model llama-0.1b --v-scale learned '*v_scaled*'");
  table.action([options] { return run_probes(*options); });
}

}  // namespace weir
