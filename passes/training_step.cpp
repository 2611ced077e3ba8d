#include "passes/training_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "passes/autodiff.h"
#include "passes/emit.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr const char* kTopic = "training";

struct Weight {
  std::string name;
  Type type;
  Value gradient;  ///< in the given graph
  bool decays = false;
};

// What is optimised, in the order of the gradient outputs, after everything given was checked.
std::vector<Weight> find_weights(const Graph& graph, const TrainingOptions& options) {
  const OptimizerOptions& o = options.optimizer;
  Problems problems(kTopic);
  std::vector<Weight> weights;
  std::vector<std::string> names;
  if (!graph.find_output(options.loss))
    problems.add(fmt::format("the graph returns no {}.", options.loss));
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
    bool decays = std::find(o.decay.begin(), o.decay.end(), name) != o.decay.end();
    weights.push_back({name, graph.type(*input), output.value, decays});
    names.push_back(name);
  }
  if (weights.empty() && problems.empty())
    problems.add("the graph returns no gradients. Differentiate it by its weights first.");
  for (const std::string& name : o.decay)
    if (std::find(names.begin(), names.end(), name) == names.end())
      problems.add(fmt::format("decay is asked of {}, which is not trained.{}", name,
                               did_you_mean(name, names)));
  auto need = [&](bool holds, const char* key, double value, const char* wanted) {
    if (!holds) problems.add(fmt::format("{} is {}, but {} is needed.", key, value, wanted));
  };
  need(o.clip >= 0, "clip", o.clip, "a number >= 0 (0: no clipping)");
  need(o.beta1 >= 0 && o.beta1 < 1, "beta1", o.beta1, "a number in [0, 1)");
  need(o.beta2 >= 0 && o.beta2 < 1, "beta2", o.beta2, "a number in [0, 1)");
  need(o.momentum >= 0 && o.momentum < 1, "momentum", o.momentum, "a number in [0, 1)");
  need(o.weight_decay >= 0, "weight_decay", o.weight_decay, "a number >= 0");
  need(options.micro_batches >= 1, "micro_batches", static_cast<double>(options.micro_batches),
       "a number >= 1");
  problems.raise();
  return weights;
}

// A state that one or more of the programs share.
struct State {
  std::string name;
  Type type;
};

std::vector<State> moments_of(const Weight& weight, OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::adamw:
      return {{"adam.m." + weight.name, weight.type}, {"adam.v." + weight.name, weight.type}};
    case OptimizerKind::sgd:
      return {{"sgd.m." + weight.name, weight.type}};
  }
  internal_error_at("unknown optimiser");
}

std::vector<State> scalars_of(OptimizerKind kind) {
  if (kind == OptimizerKind::sgd) return {{"rate", f32({})}};
  return {{"rate", f32({})}, {"bias1", f32({})}, {"bias2", f32({})}};
}

std::string accumulator_name(const ResolvedProbe& probe) { return "probe." + probe.id; }

// A program in the making: an editor whose inputs are found by name.
class Program {
 public:
  Program(const std::string& name, const Graph& model)
      : editor_(name, Stage::instrumented), model_(model) {}

  GraphEditor& editor() { return editor_; }
  void input(const State& input, bool state) {
    inputs_[input.name] = editor_.input(input.name, input.type, state);
  }
  void state(const State& added) { input(added, true); }
  Value at(const std::string& name) const { return inputs_.at(name); }
  bool has(const std::string& name) const { return inputs_.contains(name); }

  // All inputs of the model, in order.
  void model_inputs() {
    for (int32_t id : model_.inputs())
      input({model_.input_name(id), model_.node(id).types[0]},
            model_.node(id).attrs.get_bool("state"));
  }
  // All nodes and names of the model; its inputs are there already.
  void model_nodes() {
    for (int32_t id = 0; id < model_.size(); ++id) {
      const Node& node = model_.node(id);
      std::vector<Value> operands;
      for (Value operand : node.inputs) operands.push_back((*this)[operand]);
      WEIR_CHECK(node.op != Op::kernel, "a kernel before fusion");
      if (node.op == Op::input)
        map_.push_back({at(model_.input_name(id))});
      else if (info(node.op).op_class == OpClass::Source)
        map_.push_back({editor_.add_source(node.op, node.types[0], node.attrs, node.where)});
      else
        map_.push_back(editor_.add_node(node.op, operands, node.attrs, node.where));
    }
    for (const auto& [name, value] : model_.names()) editor_.name((*this)[value], name);
  }
  Value operator[](Value old) const { return map_.at(old.node).at(old.result); }

  // Named code stays until lowering, so that nodes keep their order whatever is probed.
  GraphPtr finish() { return live_graph(editor_.finish(), true); }

 private:
  GraphEditor editor_;
  const Graph& model_;
  std::map<std::string, Value> inputs_;
  std::vector<std::vector<Value>> map_;
};

class TrainingStep {
 public:
  TrainingStep(const GraphPtr& graph, const TrainingOptions& options)
      : graph_(*graph), options_(options), weights_(find_weights(*graph, options)) {
    Problems problems(kTopic);
    for (const ResolvedProbe& probe : options.probes)
      if (!find_probed(graph_, probe))
        problems.add(fmt::format("the probed value of {} is no longer in the program.", probe.id));
    problems.raise();
  }

  GraphPtr whole() {
    Program p(graph_.name(), graph_);
    p.model_inputs();
    optimizer_inputs(p);
    p.model_nodes();
    for (const Output& output : graph_.outputs())
      if (!is_gradient(output)) p.editor().output(output.name, p[output.value]);
    std::vector<Value> gradients;
    for (const Weight& weight : weights_) gradients.push_back(p[weight.gradient]);
    for (bool before : {true, false}) {
      if (!before) update(p, gradients);
      for (const ResolvedProbe& probe : options_.probes)
        if (reads_state(probe) == before)
          emit_probe(p, probe, apply_all(p, probe, p[*find_probed(graph_, probe)]));
    }
    return p.finish();
  }

  GraphPtr prepare() {
    Program p(graph_.name() + ".prepare", graph_);
    for (const auto& [state, initial] : accumulators()) p.state(state);
    for (const auto& [state, initial] : accumulators())
      p.editor().output(state.name, p.editor().constant(initial, state.type));
    return p.finish();
  }

  GraphPtr micro() {
    Program p(graph_.name() + ".micro", graph_);
    p.model_inputs();
    for (const auto& [state, initial] : accumulators()) p.state(state);
    p.model_nodes();
    Emit e(p.editor());
    for (const Output& output : graph_.outputs()) {
      if (is_gradient(output)) continue;
      Value value = p[output.value];
      if (output.name == options_.loss) value = e.add(p.at(options_.loss), value);
      p.editor().output(output.name, value);
    }
    for (const Weight& weight : weights_)
      p.editor().output(gradient_output(weight.name),
                        accumulated(p, p.at(gradient_output(weight.name)), p[weight.gradient]));
    for (const ResolvedProbe& probe : options_.probes) {
      if (belongs_to_step(probe)) continue;
      Value x = p[*find_probed(graph_, probe)];
      if (probe.batch_step < 0)
        emit_probe(p, probe, apply_all(p, probe, x));
      else
        accumulate_probe(p, probe, x);
    }
    return p.finish();
  }

  GraphPtr finish() {
    Program p(graph_.name() + ".finish", graph_);
    for (const Weight& weight : weights_) p.state({weight.name, weight.type});
    for (const ResolvedProbe& probe : options_.probes)  // of states that are not trained
      if (belongs_to_step(probe) && !p.has(probe.name))
        p.state({probe.name, graph_.type(*graph_.find_input(probe.name))});
    for (const Weight& weight : weights_) p.state({gradient_output(weight.name), weight.type});
    for (const ResolvedProbe& probe : options_.probes)
      if (is_accumulated(probe)) p.state(probe_accumulator(probe).first);
    optimizer_inputs(p);
    std::vector<Value> gradients;
    for (const Weight& weight : weights_) gradients.push_back(p.at(gradient_output(weight.name)));
    for (const ResolvedProbe& probe : options_.probes)
      if (reads_state(probe)) emit_probe(p, probe, apply_all(p, probe, p.at(probe.name)));
    update(p, gradients);
    for (const ResolvedProbe& probe : options_.probes) {
      if (reads_state(probe)) continue;
      if (belongs_to_step(probe))
        emit_probe(p, probe, apply_all(p, probe, p.at(gradient_output(probe.name))));
      else if (is_accumulated(probe))
        complete_probe(p, probe);
    }
    return p.finish();
  }

 private:
  bool is_gradient(const Output& output) const {
    return std::any_of(weights_.begin(), weights_.end(), [&](const Weight& weight) {
      return output.name == gradient_output(weight.name);
    });
  }
  // Weights and their gradients do not belong to a micro-batch.
  bool belongs_to_step(const ResolvedProbe& probe) const {
    auto input = graph_.find_input(probe.name);
    if (!input || !graph_.node(*input).attrs.get_bool("state")) return false;
    if (!probe.gradient) return true;
    return std::any_of(weights_.begin(), weights_.end(),
                       [&](const Weight& weight) { return weight.name == probe.name; });
  }
  // The value of a state is read before the update overwrites it.
  bool reads_state(const ResolvedProbe& probe) const {
    return belongs_to_step(probe) && !probe.gradient;
  }
  bool is_accumulated(const ResolvedProbe& probe) const {
    return probe.batch_step >= 0 && !belongs_to_step(probe);
  }

  // Accumulator states with the value they start from.
  std::vector<std::pair<State, double>> accumulators() {
    const Type loss = graph_.type(*graph_.find_output(options_.loss));
    std::vector<std::pair<State, double>> all = {{{options_.loss, loss}, 0}};
    for (const Weight& weight : weights_)
      all.push_back({{gradient_output(weight.name), weight.type}, 0});
    for (const ResolvedProbe& probe : options_.probes)
      if (is_accumulated(probe)) all.push_back(probe_accumulator(probe));
    return all;
  }

  // The type of a probe's accumulator comes from building its chain on the side.
  std::pair<State, double> probe_accumulator(const ResolvedProbe& probe) const {
    GraphEditor scratch("probe");
    Value x = probe_source(scratch, probe);
    x = apply_probe_steps(scratch, probe, x, 0, probe.batch_step);
    const ProbeStep& step = probe.steps[probe.batch_step];
    x = partial_step(scratch, step, x);
    return {{accumulator_name(probe), scratch.type(x)}, join_identity(step)};
  }
  // A stand-in for the probed value of the same type; a pattern keeps its op.
  Value probe_source(GraphEditor& scratch, const ResolvedProbe& probe) const {
    Value value = *find_probed(graph_, probe);
    while (graph_.node(value).op == Op::identity) value = graph_.node(value).inputs[0];
    const Node& node = graph_.node(value);
    if (node.op != Op::attention_pattern) return scratch.constant(0, graph_.type(value));
    std::vector<Value> operands;
    for (Value operand : node.inputs) operands.push_back(scratch.constant(0, graph_.type(operand)));
    return scratch.add(node.op, operands, node.attrs);
  }
  // How many elements the batch step reduces to one in the whole step.
  int64_t whole_count(const ResolvedProbe& probe) const {
    GraphEditor scratch("probe");
    Value x = apply_probe_steps(scratch, probe, probe_source(scratch, probe), 0, probe.batch_step);
    return options_.micro_batches *
           reduced_count(probe.steps[probe.batch_step], scratch.type(x).shape);
  }

  static Value apply_all(Program& p, const ResolvedProbe& probe, Value x) {
    return apply_probe_steps(p.editor(), probe, x, 0, static_cast<int64_t>(probe.steps.size()));
  }
  static void emit_probe(Program& p, const ResolvedProbe& probe, Value x) {
    p.editor().add_node(Op::probe, {x}, {{"id", probe.id}});
  }
  static void accumulate_probe(Program& p, const ResolvedProbe& probe, Value x) {
    const ProbeStep& step = probe.steps[probe.batch_step];
    x = apply_probe_steps(p.editor(), probe, x, 0, probe.batch_step);
    x = partial_step(p.editor(), step, x);
    const std::string name = accumulator_name(probe);
    p.editor().output(name, p.editor().add(join_op(step), {p.at(name), x}));
  }
  void complete_probe(Program& p, const ResolvedProbe& probe) const {
    Value x = complete_step(p.editor(), probe.steps[probe.batch_step],
                            p.at(accumulator_name(probe)), whole_count(probe));
    emit_probe(p, probe,
               apply_probe_steps(p.editor(), probe, x, probe.batch_step + 1,
                                 static_cast<int64_t>(probe.steps.size())));
  }

  // sum + gradient; a product adds into the sum itself.
  static Value accumulated(Program& p, Value sum, Value gradient) {
    const Node node = p.editor().graph().node(gradient);
    if (node.op == Op::matmul && node.inputs.size() == 2)
      return p.editor().add(Op::matmul, {node.inputs[0], node.inputs[1], sum}, node.attrs,
                            node.where);
    return p.editor().add(Op::add, {sum, gradient});
  }

  void optimizer_inputs(Program& p) const {
    for (const Weight& weight : weights_)
      for (const State& moment : moments_of(weight, options_.optimizer.kind)) p.state(moment);
    for (const State& scalar : scalars_of(options_.optimizer.kind)) p.input(scalar, false);
  }

  // The root of the sum of all squares, as f32[].
  static Value global_norm(const Emit& e, const std::vector<Value>& gradients) {
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

  void update(Program& p, const std::vector<Value>& gradients) const {
    const OptimizerOptions& o = options_.optimizer;
    Emit e(p.editor());
    Value norm = global_norm(e, gradients);
    p.editor().output("grad_norm", norm);
    Value factor = e.scalar(1, norm);
    if (o.clip > 0)
      factor = e.minimum(e.div(e.scalar(o.clip, norm), e.add(norm, o.clip_epsilon)), factor);
    for (size_t i = 0; i < weights_.size(); ++i) {
      const Weight& weight = weights_[i];
      double decay = weight.decays ? o.weight_decay : 0;
      std::vector<State> moments = moments_of(weight, o.kind);
      std::vector<Value> operands = {p.at(weight.name), gradients[i]};
      for (const State& moment : moments) operands.push_back(p.at(moment.name));
      for (const State& scalar : scalars_of(o.kind)) operands.push_back(p.at(scalar.name));
      operands.push_back(factor);
      std::vector<Value> updated =
          o.kind == OptimizerKind::adamw
              ? p.editor().add_node(Op::adamw, operands,
                                    {{"beta1", o.beta1},
                                     {"beta2", o.beta2},
                                     {"eps", o.eps},
                                     {"weight_decay", decay}})
              : p.editor().add_node(Op::sgd, operands,
                                    {{"momentum", o.momentum}, {"weight_decay", decay}});
      p.editor().output(weight.name, updated[0]);
      for (size_t m = 0; m < moments.size(); ++m)
        p.editor().output(moments[m].name, updated[m + 1]);
    }
  }

  const Graph& graph_;
  const TrainingOptions& options_;
  std::vector<Weight> weights_;
};

}  // namespace

TrainingPrograms make_training_programs(const GraphPtr& graph, const TrainingOptions& options) {
  TrainingStep training(graph, options);
  if (options.micro_batches == 1) return {training.whole(), nullptr, nullptr, nullptr};
  return {nullptr, training.prepare(), training.micro(), training.finish()};
}

}  // namespace weir
