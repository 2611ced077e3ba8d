#include "passes/compose/batch_probes.h"

#include <fmt/format.h>

#include <tuple>

#include "passes/attention_probes.h"
#include "support/error.h"

namespace weir {
namespace {

// What an accumulator holds: a value of the model and the steps up to the batch's.
using Held =
    std::tuple<Value,
               std::vector<std::tuple<ReductionKind, std::vector<int64_t>, int64_t, int64_t>>>;

Held held_by(const Graph& graph, const ResolvedProbe& probe) {
  Held held;
  std::get<0>(held) = expect(find_probed(graph, probe));
  for (int64_t i = 0; i <= probe.batch_step; ++i) {
    const ProbeStep& step = probe.steps[i];
    std::get<1>(held).emplace_back(step.kind, step.axes, step.start, step.limit);
  }
  return held;
}

}  // namespace

void check_probed(const Graph& graph, const std::vector<ResolvedProbe>& probes, const char* topic) {
  Problems problems(topic);
  for (const ResolvedProbe& probe : probes)
    if (!find_probed(graph, probe))
      problems.add(fmt::format("the probed value of {} is no longer in the program.", probe.id));
  problems.raise();
}

Value apply_probe(ModelProgram& p, const ResolvedProbe& probe, Value x) {
  return apply_probe_steps(p.editor(), probe, x, 0, static_cast<int64_t>(probe.steps.size()));
}

void emit_probe(ModelProgram& p, const ResolvedProbe& probe, Value x) {
  p.editor().add_node(Op::probe, {apply_probe(p, probe, x)}, {{"id", probe.id}});
}

BatchProbes::BatchProbes(const Graph& graph, const std::vector<ResolvedProbe>& probes,
                         int64_t parts)
    : graph_(graph), parts_(parts) {
  std::map<Held, std::string> names;
  for (const ResolvedProbe& probe : probes) {
    WEIR_CHECK(probe.batch_step >= 0, "{} does not reduce the batch", probe.id);
    auto [found, is_new] = names.emplace(held_by(graph, probe), "probe." + probe.id);
    accumulator_of_[probe.id] = found->second;
    if (!is_new) continue;
    // The type comes from building the chain on the side.
    GraphEditor scratch("probe");
    const ProbeStep& step = probe.steps[probe.batch_step];
    Value x = apply_probe_steps(scratch, probe, source(scratch, probe), 0, probe.batch_step);
    x = partial_step(scratch, step, x);
    accumulators_.push_back({{found->second, scratch.type(x)}, join_identity(step)});
  }
}

// A stand-in for the probed value of the same type; what probes cut before it is computed keeps its
// op.
Value BatchProbes::source(GraphEditor& scratch, const ResolvedProbe& probe) const {
  Value value = expect(find_probed(graph_, probe));
  while (graph_.node(value).op == Op::identity) value = graph_.node(value).inputs[0];
  const Node& node = graph_.node(value);
  if (!is_whole_attention(graph_, value)) return scratch.constant(0, graph_.type(value));
  std::vector<Value> operands;
  for (Value operand : node.inputs) operands.push_back(scratch.constant(0, graph_.type(operand)));
  return scratch.add_node(node.op, operands, node.attrs)[value.result];
}

void BatchProbes::accumulate(ModelProgram& p, const ResolvedProbe& probe, Value x) const {
  const std::string& name = accumulator_of_.at(probe.id);
  if (p.editor().graph().find_output(name)) return;
  const ProbeStep& step = probe.steps[probe.batch_step];
  x = apply_probe_steps(p.editor(), probe, x, 0, probe.batch_step);
  x = partial_step(p.editor(), step, x);
  p.editor().output(name, weir::accumulate(p, join_op(step), p.at(name), x));
}

void BatchProbes::complete(ModelProgram& p, const ResolvedProbe& probe) const {
  const ProbeStep& step = probe.steps[probe.batch_step];
  // How many elements the batch step reduces to one in the whole batch.
  GraphEditor scratch("probe");
  Value before = apply_probe_steps(scratch, probe, source(scratch, probe), 0, probe.batch_step);
  const int64_t count = parts_ * reduced_count(step, scratch.type(before).shape);
  Value x = complete_step(p.editor(), step, p.at(accumulator_of_.at(probe.id)), count);
  x = apply_probe_steps(p.editor(), probe, x, probe.batch_step + 1,
                        static_cast<int64_t>(probe.steps.size()));
  p.editor().add_node(Op::probe, {x}, {{"id", probe.id}});
}

}  // namespace weir
