#include "passes/compose/descend.h"

#include <fmt/format.h>

#include "passes/autodiff.h"
#include "passes/compose/batch_probes.h"
#include "passes/compose/model_program.h"
#include "passes/op_builder.h"
#include "support/error.h"

namespace weir {
namespace {

struct Descended {
  std::string name;
  Value gradient;  ///< in the given graph
};

std::vector<Descended> find_descended(const Graph& graph) {
  Problems problems("descent");
  std::vector<Descended> weights;
  const std::string prefix = gradient_output("");
  for (const Output& output : graph.outputs()) {
    if (!output.name.starts_with(prefix)) continue;
    const std::string name = output.name.substr(prefix.size());
    const auto input = graph.find_input(name);
    if (!input || !graph.node(*input).attrs.get_bool("state"))
      problems.add(fmt::format(
          "{} is returned, but {} is no state of the graph, so it cannot be updated. Declare it "
          "with Builder::state, or leave it out of the gradients.",
          output.name, name));
    else if (graph.find_output(name))
      problems.add(fmt::format(
          "{} is to be descended, but the graph gives it a new value itself. Leave it out of the "
          "gradients, or out of the outputs.",
          name));
    else
      weights.push_back({name, output.value});
  }
  if (weights.empty() && problems.empty())
    problems.add("the graph returns no gradients. Differentiate it by its weights first.");
  problems.raise();
  return weights;
}

}  // namespace

GraphPtr make_descent_program(const GraphPtr& graph, const std::vector<ResolvedProbe>& probes) {
  const std::vector<Descended> weights = find_descended(*graph);
  check_probed(*graph, probes, "descent");
  ModelProgram p(graph->name(), *graph);
  p.model_inputs();
  p.input({"rate", f32({})}, false);
  p.model_nodes();
  for (const ResolvedProbe& probe : probes) {
    const auto probed = find_probed(*graph, probe);
    emit_probe(p, probe, p[*probed]);
  }
  const std::string prefix = gradient_output("");
  for (const Output& output : graph->outputs())
    if (!output.name.starts_with(prefix)) p.editor().output(output.name, p[output.value]);
  const OpBuilder e(p.editor());
  for (const Descended& weight : weights) {
    Value rate = e.as_dtype_of(p.at("rate"), p.at(weight.name));
    Value step = e.mul(p[weight.gradient], rate);
    p.editor().output(weight.name, e.sub(p.at(weight.name), step));
  }
  return p.finish();
}

}  // namespace weir
