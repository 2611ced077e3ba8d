#include "passes/compose/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

#include "passes/autodiff.h"
#include "passes/compose/batch_probes.h"
#include "passes/op_builder.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

struct Weight {
  std::string name;
  Type type;
  Value gradient;  ///< in the given graph
  bool decays = false;
  OptimizerKind rule = OptimizerKind::adamw;
};

// What is optimised, in the order of the gradient outputs, after everything given was checked.
std::vector<Weight> find_weights(const Graph& graph, const TrainingOptions& options) {
  const OptimizerOptions& o = options.optimizer;
  Problems problems("training");
  std::vector<Weight> weights;
  std::vector<std::string> names;
  if (!graph.find_output(options.loss))
    problems.add(fmt::format("the graph returns no {}.", options.loss));
  const std::set<std::string> decay(o.decay.begin(), o.decay.end());
  const std::set<std::string> orthogonal(o.orthogonal.begin(), o.orthogonal.end());
  for (const Output& output : graph.outputs()) {
    const std::string prefix = gradient_output("");
    if (!output.name.starts_with(prefix)) continue;
    std::string name = output.name.substr(prefix.size());
    auto input = graph.find_input(name);
    if (!input || !graph.node(*input).attrs.get_bool("state")) {
      problems.add(fmt::format(
          "{} is returned, but {} is no state of the graph, so it cannot be updated. Declare it "
          "with Builder::state, or leave it out of the gradients.",
          output.name, name));
      continue;
    }
    const bool decays = decay.contains(name);
    const OptimizerKind rule = rule_of(o.kind, orthogonal.contains(name));
    weights.push_back({name, graph.type(*input), output.value, decays, rule});
    if (rule == OptimizerKind::muon && graph.type(*input).rank() != 2)
      problems.add(fmt::format("{} is {}, but Muon moves matrices alone. Leave it to AdamW.", name,
                               to_string(graph.type(*input))));
    names.push_back(name);
  }
  if (weights.empty() && problems.empty())
    problems.add("the graph returns no gradients. Differentiate it by its weights first.");
  const std::set<std::string> trained(names.begin(), names.end());
  for (const auto& [what, asked] : {std::pair("decay", &o.decay), {"Muon", &o.orthogonal}})
    for (const std::string& name : *asked)
      if (!trained.contains(name))
        problems.add(fmt::format("{} is asked of {}, which is not trained.{}", what, name,
                                 did_you_mean(name, names)));
  auto need = [&](bool holds, const char* key, double value, const char* wanted) {
    if (!holds) problems.add(fmt::format("{} is {}, but {} is needed.", key, value, wanted));
  };
  need(o.clip >= 0, "clip", o.clip, "a number >= 0 (0: no clipping)");
  need(o.beta1 >= 0 && o.beta1 < 1, "beta1", o.beta1, "a number in [0, 1)");
  need(o.beta2 >= 0 && o.beta2 < 1, "beta2", o.beta2, "a number in [0, 1)");
  need(o.eps > 0, "eps", o.eps, "a number > 0 (a moment may be 0)");
  need(o.momentum >= 0 && o.momentum < 1, "momentum", o.momentum, "a number in [0, 1)");
  need(o.muon_scale > 0, "muon_scale", o.muon_scale, "a number > 0");
  need(o.weight_decay >= 0, "weight_decay", o.weight_decay, "a number >= 0");
  need(options.micro_batches >= 1, "micro_batches", static_cast<double>(options.micro_batches),
       "a number >= 1");
  problems.raise();
  return weights;
}

std::set<std::string> names_of(const std::vector<Weight>& weights) {
  std::set<std::string> names;
  for (const Weight& weight : weights) names.insert(weight.name);
  return names;
}

using State = ProgramState;

std::vector<State> moments_of(const Weight& weight) {
  std::vector<State> moments;
  for (const char* moment : slots_of(weight.rule).moments)
    moments.push_back({moment + weight.name, weight.type});
  return moments;
}

// The update of a weight: its new value, then its moments.
std::vector<Value> updated(const OpBuilder& e, const Weight& weight, const OptimizerOptions& o,
                           const std::vector<Value>& operands) {
  const double decay = weight.decays ? o.weight_decay : 0;
  switch (weight.rule) {
    case OptimizerKind::adamw:
      return e.editor().add_node(
          Op::adamw, operands,
          {{"beta1", o.beta1}, {"beta2", o.beta2}, {"eps", o.eps}, {"weight_decay", decay}});
    case OptimizerKind::sgd:
      return e.editor().add_node(Op::sgd, operands,
                                 {{"momentum", o.momentum}, {"weight_decay", decay}});
    case OptimizerKind::muon:
      return e.editor().add_node(
          Op::muon, operands,
          {{"momentum", o.momentum}, {"weight_decay", decay}, {"scale", o.muon_scale}});
  }
  internal_error_at("unknown optimiser");
}

class TrainingStep {
 public:
  TrainingStep(const GraphPtr& graph, const TrainingOptions& options)
      : graph_(*graph),
        options_(options),
        weights_(find_weights(*graph, options)),
        trained_(names_of(weights_)),
        batch_probes_(graph_, accumulated_probes(), options.micro_batches) {}

  GraphPtr whole() {
    ModelProgram p(graph_.name(), graph_);
    p.model_inputs();
    optimizer_inputs(p);
    p.model_nodes();
    for (const Output& output : graph_.outputs())
      if (!is_gradient(output)) p.editor().output(output.name, p[output.value]);
    std::vector<Value> gradients;
    for (const Weight& weight : weights_) gradients.push_back(p[weight.gradient]);
    for (bool before : {true, false}) {
      if (!before) update(p, gradients, p[expect(graph_.find_output(options_.loss))]);
      for (const ResolvedProbe& probe : options_.probes)
        if (reads_state(probe) == before)
          emit_probe(p, probe, p[expect(find_probed(graph_, probe))]);
    }
    return p.finish();
  }

  GraphPtr prepare() const { return prepare_program(graph_, accumulators()); }

  GraphPtr micro() {
    ModelProgram p(graph_.name() + ".micro", graph_);
    p.model_inputs();
    for (const auto& [state, initial] : accumulators()) p.state(state);
    p.model_nodes();
    for (const Output& output : graph_.outputs()) {
      if (is_gradient(output)) continue;
      Value value = p[output.value];
      if (output.name == options_.loss) value = accumulate(p, Op::add, p.at(options_.loss), value);
      p.editor().output(output.name, value);
    }
    for (const Weight& weight : weights_)
      p.editor().output(
          gradient_output(weight.name),
          accumulate(p, Op::add, p.at(gradient_output(weight.name)), p[weight.gradient]));
    for (const ResolvedProbe& probe : options_.probes) {
      if (belongs_to_step(probe)) continue;
      Value x = p[expect(find_probed(graph_, probe))];
      if (probe.batch_step < 0)
        emit_probe(p, probe, x);
      else
        batch_probes_.accumulate(p, probe, x);
    }
    return p.finish();
  }

  GraphPtr finish() {
    ModelProgram p(graph_.name() + ".finish", graph_);
    for (const Weight& weight : weights_) p.state({weight.name, weight.type});
    for (const ResolvedProbe& probe : options_.probes)  // of states that are not trained
      if (belongs_to_step(probe) && !p.has(probe.name))
        p.state({probe.name, graph_.type(expect(graph_.find_input(probe.name)))});
    for (const Weight& weight : weights_) p.state({gradient_output(weight.name), weight.type});
    p.state({options_.loss, graph_.type(expect(graph_.find_output(options_.loss)))});
    for (const auto& accumulator : batch_probes_.accumulators()) p.state(accumulator.state);
    optimizer_inputs(p);
    std::vector<Value> gradients;
    for (const Weight& weight : weights_) gradients.push_back(p.at(gradient_output(weight.name)));
    for (const ResolvedProbe& probe : options_.probes)
      if (reads_state(probe)) emit_probe(p, probe, p.at(probe.name));
    update(p, gradients, p.at(options_.loss));
    for (const ResolvedProbe& probe : options_.probes) {
      if (reads_state(probe)) continue;
      if (belongs_to_step(probe))
        emit_probe(p, probe, p.at(gradient_output(probe.name)));
      else if (is_accumulated(probe))
        batch_probes_.complete(p, probe);
    }
    return p.finish();
  }

 private:
  bool is_gradient(const Output& output) const {
    const std::string prefix = gradient_output("");
    return output.name.starts_with(prefix) && trained_.contains(output.name.substr(prefix.size()));
  }
  // Weights and their gradients do not belong to a micro-batch.
  bool belongs_to_step(const ResolvedProbe& probe) const {
    auto input = graph_.find_input(probe.name);
    if (!input || !graph_.node(*input).attrs.get_bool("state")) return false;
    if (!probe.gradient) return true;
    return trained_.contains(probe.name);
  }
  // The value of a state is read before the update overwrites it.
  bool reads_state(const ResolvedProbe& probe) const {
    return belongs_to_step(probe) && !probe.gradient;
  }
  bool is_accumulated(const ResolvedProbe& probe) const {
    return probe.batch_step >= 0 && !belongs_to_step(probe);
  }
  std::vector<ResolvedProbe> accumulated_probes() const {
    check_probed(graph_, options_.probes, "training");
    std::vector<ResolvedProbe> probes;
    for (const ResolvedProbe& probe : options_.probes)
      if (is_accumulated(probe)) probes.push_back(probe);
    return probes;
  }

  // Accumulator states with the value they start from.
  std::vector<Accumulator> accumulators() const {
    const Type loss = graph_.type(expect(graph_.find_output(options_.loss)));
    std::vector<Accumulator> all = {{{options_.loss, loss}, 0}};
    for (const Weight& weight : weights_)
      all.push_back({{gradient_output(weight.name), weight.type}, 0});
    for (const Accumulator& accumulator : batch_probes_.accumulators()) all.push_back(accumulator);
    return all;
  }

  void optimizer_inputs(ModelProgram& p) const {
    for (const Weight& weight : weights_)
      for (const State& moment : moments_of(weight)) p.state(moment);
    for (const char* scalar : scalars_of_step(options_.optimizer.kind))
      p.input({scalar, f32({})}, false);
  }

  // The root of the sum of all squares, as f32[].
  static Value global_norm(const OpBuilder& e, const std::vector<Value>& gradients) {
    Value total;
    for (Value gradient : gradients) {
      std::vector<int64_t> axes;
      for (int64_t i = 0; i < e.type(gradient).rank(); ++i) axes.push_back(i);
      Value squares = e.mul(gradient, gradient);
      if (!axes.empty()) squares = e.reshape(e.reduce_sum(squares, axes), {});
      total = total.valid() ? e.add(total, squares) : squares;
    }
    return e.sqrt(total);
  }

  // Whether the norm (of gradients, hence all of them) and the loss are finite, as bool[].
  static Value is_finite(const OpBuilder& e, Value norm, Value loss) {
    const Value size = e.as_dtype_of(e.abs(e.reshape(loss, {})), norm);
    return e.le(e.add(norm, size), static_cast<double>(std::numeric_limits<float>::max()));
  }

  void update(ModelProgram& p, const std::vector<Value>& gradients, Value loss) const {
    const OptimizerOptions& o = options_.optimizer;
    OpBuilder e(p.editor());
    Value norm = global_norm(e, gradients);
    p.editor().output("grad_norm", norm);
    Value factor = e.scalar(1, norm);
    if (o.clip > 0)
      factor = e.minimum(e.div(e.scalar(o.clip, norm), e.add(norm, o.clip_epsilon)), factor);
    const Value finite = is_finite(e, norm, loss);
    for (size_t i = 0; i < weights_.size(); ++i) {
      const Weight& weight = weights_[i];
      const std::vector<State> moments = moments_of(weight);
      std::vector<Value> operands = {p.at(weight.name), gradients[i]};
      for (const State& moment : moments) operands.push_back(p.at(moment.name));
      for (const char* scalar : slots_of(weight.rule).scalars) operands.push_back(p.at(scalar));
      operands.push_back(factor);
      const std::vector<Value> results = updated(e, weight, o, operands);
      const auto output = [&](const std::string& name, Value value) {
        p.editor().output(name, e.select(finite, value, p.at(name)));
      };
      output(weight.name, results[0]);
      for (size_t m = 0; m < moments.size(); ++m) output(moments[m].name, results[m + 1]);
    }
  }

  const Graph& graph_;
  const TrainingOptions& options_;
  std::vector<Weight> weights_;
  std::set<std::string> trained_;  ///< their names
  BatchProbes batch_probes_;
};

}  // namespace

TrainingPrograms make_training_programs(const GraphPtr& graph, const TrainingOptions& options) {
  TrainingStep training(graph, options);
  if (options.micro_batches == 1) return {training.whole(), nullptr, nullptr, nullptr};
  return {nullptr, training.prepare(), training.micro(), training.finish()};
}

}  // namespace weir
