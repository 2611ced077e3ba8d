#include "passes/compose/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "ir/alias.h"
#include "passes/attention_probes.h"
#include "passes/autodiff.h"
#include "passes/compose/batch_probes.h"
#include "support/error.h"

namespace weir {
namespace {

bool is_state(const Graph& graph, const std::string& name) {
  auto input = graph.find_input(name);
  return input && graph.node(*input).attrs.get_bool("state");
}

class Measurement {
 public:
  Measurement(const GraphPtr& graph, const MeasureOptions& options)
      : graph_(*graph), options_(options), batch_probes_(graph_, checked(), options.parts) {
    place_probes();
  }

  GraphPtr step() {
    ModelProgram p(graph_.name(), graph_);
    p.model_inputs();
    for (const ResolvedProbe& probe : options_.probes)
      if (reads_state(probe)) emit_probe(p, probe, p.at(probe.name));
    with_probes(p, [&](const ResolvedProbe& probe, Value x) {
      if (probe.batch_step >= 0) p.editor().output("probe." + probe.id, apply_probe(p, probe, x));
      emit_probe(p, probe, x);
    });
    if (has_loss()) p.editor().output(options_.loss, p[expect(graph_.find_output(options_.loss))]);
    return p.finish();
  }

  GraphPtr prepare() const { return prepare_program(graph_, accumulators()); }

  GraphPtr micro() {
    ModelProgram p(graph_.name() + ".micro", graph_);
    p.model_inputs();
    for (const auto& [state, initial] : accumulators()) p.state(state);
    with_probes(p, [&](const ResolvedProbe& probe, Value x) {
      if (probe.batch_step >= 0)
        batch_probes_.accumulate(p, probe, x);
      else
        emit_probe(p, probe, x);
    });
    if (has_loss()) {
      Value loss = p[expect(graph_.find_output(options_.loss))];
      p.editor().output(options_.loss, accumulate(p, Op::add, p.at(options_.loss), loss));
    }
    return p.finish();
  }

  GraphPtr finish() {
    ModelProgram p(graph_.name() + ".finish", graph_);
    for (const auto& accumulator : batch_probes_.accumulators()) p.state(accumulator.state);
    for (const ResolvedProbe& probe : options_.probes)
      if (reads_state(probe) && !p.has(probe.name))
        p.state({probe.name, graph_.type(expect(graph_.find_input(probe.name)))});
    for (const ResolvedProbe& probe : options_.probes) {
      if (reads_state(probe))
        emit_probe(p, probe, p.at(probe.name));
      else if (probe.batch_step >= 0)
        batch_probes_.complete(p, probe);
    }
    return p.finish();
  }

 private:
  bool has_loss() const { return !options_.loss.empty(); }

  bool reads_state(const ResolvedProbe& probe) const { return is_state(graph_, probe.name); }

  // The probes that reduce the batch, after everything given was checked.
  std::vector<ResolvedProbe> checked() const {
    check_probed(graph_, options_.probes, "measure");
    Problems problems("measure");
    std::vector<ResolvedProbe> reducing;
    if (has_loss() && !graph_.find_output(options_.loss))
      problems.add(fmt::format("the graph returns no {}.", options_.loss));
    for (const ResolvedProbe& probe : options_.probes) {
      const bool of_state = reads_state(probe);
      const bool cuts_batch =
          probe.batch_step < 0 && !of_state &&
          std::any_of(
              probe.steps.begin(), probe.steps.end(),
              [&](const ProbeStep& step) {
                return step.kind == ReductionKind::slice && probe.axes[step.axes[0]] == "batch";
              });
      if (cuts_batch && options_.parts > 1)
        problems.add(fmt::format(
            "{} takes some sequences of the batch, but the batch is computed in {} parts. Leave "
            "the cut out, or allow enough memory for one part.",
            probe.id, options_.parts));
      if (probe.batch_step >= 0 && !of_state) reducing.push_back(probe);
    }
    problems.raise();
    return reducing;
  }

  // After which node of the model each probe is computed: the one that makes its value; statistics
  // of attention where the backward kernel, if there is one, computes the weights again.
  void place_probes() {
    probes_after_.resize(graph_.nodes().size());
    std::map<std::vector<Value>, int32_t> gradient_of;  // by q, k and lse: the first
    for (int32_t id = 0; id < graph_.size(); ++id)
      if (const Node& node = graph_.node(id); node.op == Op::attention_grad)
        gradient_of.emplace(std::vector<Value>{node.inputs[0], node.inputs[1], node.inputs[4]}, id);
    for (size_t i = 0; i < options_.probes.size(); ++i) {
      const ResolvedProbe& probe = options_.probes[i];
      if (reads_state(probe)) continue;
      Value value = expect(find_probed(graph_, probe));
      const Node& pattern = graph_.node(through_identity(graph_, value));
      int32_t after = value.node;
      if (pattern.op == Op::attention_pattern) {
        std::vector<Value> of = pattern.inputs;
        of[2] = head_rows(graph_, of[2]);
        if (auto found = gradient_of.find(of); found != gradient_of.end())
          after = std::max(after, found->second);
      }
      probes_after_[after].push_back(i);
    }
  }

  template <typename Emitter>
  void with_probes(ModelProgram& p, Emitter emit) {
    p.model_nodes([&](int32_t id) {
      for (size_t i : probes_after_[id]) {
        const ResolvedProbe& probe = options_.probes[i];
        emit(probe, p[expect(find_probed(graph_, probe))]);
      }
    });
  }

  std::vector<Accumulator> accumulators() const {
    std::vector<Accumulator> all;
    if (has_loss())
      all.push_back({{options_.loss, graph_.type(expect(graph_.find_output(options_.loss)))}, 0});
    for (const auto& accumulator : batch_probes_.accumulators()) all.push_back(accumulator);
    return all;
  }

  const Graph& graph_;
  const MeasureOptions& options_;
  BatchProbes batch_probes_;
  std::vector<std::vector<size_t>> probes_after_;  // by node of the model
};

}  // namespace

void check_measurable(const Graph& graph, const std::vector<ResolvedProbe>& probes) {
  Problems problems("measure");
  for (const ResolvedProbe& probe : probes)
    if (probe.gradient && is_state(graph, probe.name))
      problems.add(fmt::format(
          "{} is the gradient of a weight, which a measurement does not compute. Probe a value, "
          "or train a step and probe that.",
          probe.id));
  problems.raise();
}

BatchPrograms make_measure_programs(const GraphPtr& graph, const MeasureOptions& options) {
  if (options.parts < 1)
    user_error("measure", "the batch is asked for in {} parts, but at least 1 is needed.",
               options.parts);
  Measurement measurement(graph, options);
  if (options.parts == 1) return {measurement.step(), nullptr, nullptr, nullptr};
  return {nullptr, measurement.prepare(), measurement.micro(), measurement.finish()};
}

}  // namespace weir
