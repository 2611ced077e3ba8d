#include "lab/experiments/program_set.h"

#include <algorithm>
#include <cstring>

#include "interpret/interpret.h"
#include "ir/rewrite_state.h"
#include "passes/pipeline.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {

StoredValue::StoredValue(const ProbeValue& value)
    : type_(value.view.type()), bytes_(static_cast<size_t>(type_.bytes())) {
  value.view.copy_to(type_.dtype, bytes_.data());
}

/// The programs for one number of sequences a part.
struct ProgramSet::Planned {
  std::vector<GraphPtr> instrumented;
  std::vector<bool> has_loss;
  BatchPlan compiled;  ///< without programs for the interpreter
};

ProgramSet::Planned ProgramSet::planned(int64_t rows) const {
  Planned planned;
  const ProgramPlan plan = plan_(rows);
  for (const SetProgram& program : plan.programs) {
    CompileOptions options{.target = target_, .probes = program.probes};
    options.compose = {.purpose = Purpose::measure, .returns_loss = program.loss};
    options.stop = Stage::instrumented;
    if (!settings_.interpret) options.decompose = DecomposeMode::none;
    const std::vector<GraphPtr> made = run_pipeline(program.graph, options).programs;
    planned.has_loss.push_back(program.loss);
    planned.instrumented.push_back(made.front());
    if (!settings_.interpret)
      planned.compiled.variants.push_back(run_pipeline(made, {.target = target_}).programs);
  }
  if (settings_.interpret) return planned;
  planned.compiled.settings = {
      .target = target_, .threads = settings_.threads, .cache = settings_.cache};
  std::set<std::string> weights;
  for (const SetProgram& program : plan.programs)
    for (int32_t id : program.graph->inputs())
      if (program.graph->node(id).attrs.get_bool("state"))
        weights.insert(program.graph->input_name(id));
  planned.compiled.peak = planned_memory(planned.compiled.programs(), weights);
  planned.compiled.peak.kept = plan.kept;
  planned.compiled.peak.inputs += 2 * batch_ * length_ * int64_t{sizeof(int32_t)};
  return planned;
}

// As many sequences as fit; what the code takes is known only once it is compiled.
BatchRunner::Planner ProgramSet::planner(int64_t limit) {
  return [this, limit](const MemoryPeak* last) -> std::optional<BatchPlan> {
    if (last && last->needed() <= limit) return std::nullopt;
    const int64_t process = resident_memory() + source_.mapped_bytes;
    int64_t below = last ? rows_ : batch_ + 1;
    if (settings_.rows > 0) below = std::min(below, settings_.rows + 1);
    for (int64_t rows = below - 1; rows >= 1; --rows) {
      if (batch_ % rows != 0) continue;
      Planned found = planned(rows);
      if (rows > 1 && found.compiled.peak.needed() + process > limit) continue;
      rows_ = rows;
      has_loss_ = std::move(found.has_loss);
      return std::move(found.compiled);
    }
    const auto bytes = [](int64_t n) { return human_bytes(static_cast<double>(n)); };
    user_error(topic_,
               "1 sequence of {} tokens at a time needs {}, but only {} may be used. Allow more "
               "(--memory {}), or take shorter sequences or fewer layers.",
               length_, to_string(*last), bytes(limit), memory_to_allow(last->needed()));
  };
}

ProgramSet::ProgramSet(const ModelSource& source, int64_t batch, int64_t length,
                       const std::function<ProgramPlan(int64_t rows)>& plan, const Target& target,
                       const RunSettings& settings, std::string topic)
    : source_(source),
      batch_(batch),
      length_(length),
      plan_(plan),
      target_(target),
      settings_(settings),
      topic_(std::move(topic)) {
  if (settings_.interpret) {
    rows_ = settings_.rows > 0 ? settings_.rows : batch_;
    Planned all = planned(rows_);
    instrumented_ = std::move(all.instrumented);
    has_loss_ = std::move(all.has_loss);
    return;
  }
  const int64_t limit = settings_.memory > 0 ? settings_.memory : free_memory() + resident_memory();
  runner_ = std::make_unique<BatchRunner>(planner(limit), settings_.threads, source.mapped_bytes);
}

ProgramSet::~ProgramSet() = default;

const MemoryPeak& ProgramSet::memory() const {
  static const MemoryPeak none;
  return runner_ ? runner_->memory() : none;
}

const std::optional<NotFinite>& ProgramSet::not_finite() const {
  static const std::optional<NotFinite> none;
  return finite_ ? finite_->first() : none;
}

CompileReport ProgramSet::compile_report() const {
  return runner_ ? runner_->programs().report() : CompileReport{};
}

void ProgramSet::load(const std::vector<Parameter>& parameters,
                      const std::vector<AddedState>& added) {
  std::vector<std::pair<AddedState, const Parameter*>> states;
  for (const Parameter& parameter : parameters)
    states.push_back({{parameter.name, parameter.type}, &parameter});
  for (const AddedState& state : added) states.push_back({state, nullptr});
  const auto fill = [&](size_t i, float* data) {
    const auto& [state, parameter] = states[i];
    if (parameter) return source_.read(*parameter, data);
    if (!source_.read_added || !source_.read_added(state, data))
      std::fill_n(data, state.type.elements(), static_cast<float>(first_value_of(state.name)));
  };
  if (settings_.interpret) {
    for (size_t i = 0; i < states.size(); ++i) {
      const Type& type = states[i].first.type;
      std::vector<float> data(static_cast<size_t>(type.elements()));
      fill(i, data.data());
      weights_[states[i].first.name] = {type, {data.begin(), data.end()}};
    }
  } else {
    runner_->load();
    if (settings_.check_finite) {
      finite_.emplace(runner_->programs());
      runner_->set_kernel_sink(finite_->sink());
    }
    Session& session = runner_->session();
    const std::vector<std::string> there = session.names();
    std::erase_if(states, [&](const auto& state) {
      return std::find(there.begin(), there.end(), state.first.name) == there.end();
    });
    std::vector<float*> places;
    for (const auto& state : states)
      places.push_back(static_cast<float*>(session.data(state.first.name)));
    Workers(runner_->threads())
        .parallel_tiles(
            static_cast<int64_t>(states.size()),
            [&](int64_t first, int64_t last, int) {
              for (int64_t i = first; i < last; ++i)
                fill(static_cast<size_t>(i), places[static_cast<size_t>(i)]);
            },
            1);
  }
  if (source_.check_weights) source_.check_weights();
}

double ProgramSet::run(size_t program, const NamedInputs& inputs, const ValueSink& sink) {
  if (settings_.interpret) return interpret(program, inputs, sink);
  Session& session = runner_->session();
  for (const Argument& input : runner_->programs()[program].inputs)
    for (const auto& [name, view] : inputs)
      if (name == input.name) view.copy_to(input.type.dtype, session.data(name));
  runner_->run(program, {}, sink);
  return has_loss_[program] ? runner_->scalar(program, "loss") : 0;
}

double ProgramSet::interpret(size_t program, const NamedInputs& inputs, const ValueSink& sink) {
  const Graph& graph = *instrumented_[program];
  Tensors given;
  for (int32_t id : graph.inputs()) {
    const std::string& name = graph.input_name(id);
    if (const auto weight = weights_.find(name); weight != weights_.end()) given.insert(*weight);
    for (const auto& [input, view] : inputs)
      if (input == name) given[name] = {graph.node(id).types[0], view.host().data};
  }
  const Interpretation result = interpret_all(graph, given);
  for (const auto& [id, value] : result.probes) sink({id, value.type, value});
  return has_loss_[program] ? result.outputs.at("loss").data[0] : 0;
}

}  // namespace weir
