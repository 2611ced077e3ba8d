#include "lab/train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "codegen/loss_head/loss_head.h"
#include "interpret/tensor_memory.h"
#include "io/hash.h"
#include "lab/measure/attention_map.h"
#include "lab/measure/record_values.h"
#include "passes/optimizer_slots.h"
#include "passes/pipeline.h"
#include "runtime/random.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

// Streams of the seed in [2^62, 2^63) belong to weights; data use others.
uint64_t weight_stream(const std::string& name) {
  return uint64_t{1} << 62 | hash_64("weight " + name) >> 2;
}

// An average with bias correction: 1 / (1 - beta^t) after t updates.
double bias_correction(double beta, int64_t updates) {
  return 1 / (1 - std::pow(beta, static_cast<double>(updates)));
}

int64_t memory_limit(const RunConfig& config) {
  return config.memory.empty() ? free_memory() + resident_memory()
                               : known(parse_bytes(config.memory));
}

}  // namespace

Trainer::Trainer(const RunConfig& config, const BatchSource& source,
                 const CompileSettings& settings, bool measured)
    : config_(config),
      source_(source),
      graphs_(make_training_graphs(config, settings.target, measured)) {
  const int threads = config.threads > 0 ? static_cast<int>(config.threads) : host_target().cores;
  limit_ = memory_limit(config);
  // What kernels and compiler need is known once programs are compiled; values have to make room
  // for it, and where that does not do, a loss head takes smaller chunks.
  constexpr int64_t least_logits = int64_t{16} << 20;
  CompileSettings fitting = settings;
  fitting.logits_bytes = kLogitsBytes;
  for (;; fitting.logits_bytes /= 2) {
    const int64_t others = compile(fitting, limit_ - resident_memory(), threads);
    if (memory_.running() > limit_ && others < limit_) compile(fitting, limit_ - others, threads);
    const bool hopeless = memory_.running() - memory_.arena > limit_;
    if (memory_.running() <= limit_ || hopeless || fitting.logits_bytes <= least_logits) break;
  }
  check_memory(memory_);
  session_ = std::make_unique<Session>(*programs_, threads);
}

void Trainer::check_memory(const MemoryPeak& need) const {
  if (need.needed() <= limit_) return;
  user_error("train",
             "the run needs {}, but {} of memory {}. Allow more (memory={}), compute the batch of "
             "{} in more parts (micro_batches, now {}), or make batch or length smaller.",
             to_string(need), human_bytes(static_cast<double>(limit_)),
             config_.memory.empty() ? "are free" : "may be used (memory)",
             memory_to_allow(need.needed()), config_.batch, config_.micro_batches);
}

int64_t Trainer::compile(const CompileSettings& settings, int64_t memory, int threads) {
  const CompileOptions options{.target = settings.target, .memory = std::max<int64_t>(0, memory)};
  std::vector<GraphPtr> planned;
  const auto plan = [&](const TrainingPrograms& programs, std::vector<size_t>& positions) {
    positions.clear();
    for (const GraphPtr& graph : in_order(programs)) {
      positions.push_back(planned.size());
      planned.push_back(run_pipeline(graph, options).graph);
    }
  };
  plan(graphs_.plain, plain_);
  if (graphs_.has_probes) plan(graphs_.probed, probed_);
  if (graphs_.validation) {
    validation_ = planned.size();
    planned.push_back(run_pipeline(graphs_.validation, options).graph);
  }
  programs_.reset();
  const int64_t compiled_before = memory_.compiler;
  memory_ = planned_peak(planned);
  const int64_t results = memory_.weights + memory_.state + memory_.arena + memory_.inputs;
  const int64_t before = peak_resident_memory();
  programs_ = std::make_unique<Executables>(planned, settings);
  for (size_t i = 0; i < programs_->size(); ++i) {
    const ProgramCode& code = (*programs_)[i].code;
    memory_.arena = std::max(
        memory_.arena, buffer_bytes(code.arena_bytes) + threads * buffer_bytes(code.scratch_bytes));
  }
  // A checkpoint is read tensor by tensor.
  int64_t largest = 0;
  for (const Parameter& parameter : graphs_.parameters)
    largest = std::max(largest, parameter.type.bytes());
  memory_.add_process(before, largest);
  memory_.compiler = std::max(memory_.compiler, compiled_before);
  return memory_.running() - results;
}

// What the planned programs need, and what is kept of a measured step.
MemoryPeak Trainer::planned_peak(const std::vector<GraphPtr>& planned) const {
  const MemoryNeed need = shared_memory_need(planned);
  MemoryPeak peak;
  for (const Parameter& parameter : graphs_.parameters) peak.weights += parameter.type.bytes();
  peak.state = need.state - peak.weights;
  peak.arena = need.arena;
  // Beside the buffers of the programs the batch as it is cut into parts.
  peak.inputs = need.inputs + 2 * config_.batch * config_.length * int64_t{sizeof(int32_t)};
  if (!graphs_.has_probes) return peak;
  if (config_.measure.metrics)
    peak.kept += RecordValues::bytes(graphs_.sizes, config_.batch, config_.length,
                                     config_.micro_batches > 1) +
                 map_bytes(config_.length);
  for (const GraphPtr& graph : planned)
    for (const Node& node : graph->nodes()) {
      if (node.op != Op::probe || !graphs_.kept_probes.contains(node.attrs.get_string("id")))
        continue;
      // As f64, and as f32 and in an archive while it is written.
      const bool in_parts = graph->name().ends_with(".micro");
      peak.kept +=
          graph->type(node.inputs[0]).elements() * 16 * (in_parts ? config_.micro_batches : 1);
    }
  return peak;
}

void Trainer::initialise() {
  for (const Parameter& parameter : graphs_.parameters)
    initialise_parameter(parameter, config_.seed,
                         static_cast<float*>(session_->data(parameter.name)));
  for (const StateArray& array : optimizer_state())
    std::memset(array.data, 0, static_cast<size_t>(array.type.bytes()));
}

StepResult Trainer::step(int64_t step) { return run(step, plain_, {}); }

StepResult Trainer::measured_step(int64_t step, const ValueSink& sink) {
  if (!graphs_.has_probes)
    user_error("train",
               "a step cannot be measured: the trainer was made without probes. Make it with "
               "measured = true and something to measure.");
  return run(step, probed_, sink);
}

StepResult Trainer::measured_step(int64_t step, Tensors& probes) {
  return measured_step(
      step, [&](const ProbeValue& value) { add_probe_value(probes, value.id, value.host()); });
}

StepResult Trainer::measure(int64_t step, const ValueSink& sink) {
  std::vector<std::vector<char>> saved;
  std::vector<StateArray> all = weights();
  for (const StateArray& array : optimizer_state()) all.push_back(array);
  for (const StateArray& array : all) {
    const char* bytes = static_cast<const char*>(array.data);
    saved.emplace_back(bytes, bytes + array.type.bytes());
  }
  StepResult result = measured_step(step, sink);
  for (size_t i = 0; i < all.size(); ++i)
    std::memcpy(all[i].data, saved[i].data(), saved[i].size());
  return result;
}

StepResult Trainer::run(int64_t step, const std::vector<size_t>& programs, const ValueSink& sink) {
  if (step < 0) user_error("train", "step {} is asked for, but steps count from 0.", step);
  const int64_t T = config_.length, parts = config_.micro_batches, rows = config_.batch / parts;
  std::vector<int32_t> tokens(static_cast<size_t>(config_.batch * T)), targets(tokens.size());
  source_.fill(step * config_.batch, config_.batch, T, tokens.data(), targets.data());
  const auto valid =
      std::count_if(targets.begin(), targets.end(), [](int32_t t) { return t >= 0; });
  if (valid == 0)
    user_error("train", "batch {} has no target that counts; all are to be ignored.", step);
  set_scalar("loss_scale", 1.0 / static_cast<double>(valid));
  const double rate = learning_rate(config_.optimizer, step, config_.steps);
  set_scalar("rate", rate);
  if (config_.optimizer.kind == "adamw") {
    set_scalar("bias1", bias_correction(config_.optimizer.beta1, step + 1));
    set_scalar("bias2", bias_correction(config_.optimizer.beta2, step + 1));
  }
  auto give_part = [&](int64_t part) {
    give(tokens.data() + part * rows * T, targets.data() + part * rows * T);
  };
  const size_t last = programs.back();
  if (programs.size() == 1) {
    give_part(0);
    session_->run(last, sink_of(last, sink), profile_);
    return {session_->scalar_output(last, "loss"), session_->scalar_output(last, "grad_norm"),
            rate};
  }
  session_->run(programs[0], sink_of(programs[0], sink), profile_);
  for (int64_t part = 0; part < parts; ++part) {
    give_part(part);
    session_->run(programs[1], sink_of(programs[1], sink), profile_);
  }
  session_->run(last, sink_of(last, sink), profile_);
  const double norm = session_->scalar_output(last, "grad_norm");
  return {read_tensor(session_->type("loss"), session_->data("loss")).data[0], norm, rate};
}

double Trainer::validate(const BatchSource& source, int64_t count) {
  WEIR_CHECK(validation_, "a run without a program for validation");
  const int64_t T = config_.length, rows = config_.batch / config_.micro_batches;
  std::vector<int32_t> tokens(static_cast<size_t>(rows * T)), targets(tokens.size());
  double sum = 0;
  for (int64_t first = 0; first < count; first += rows) {
    const int64_t filled = std::min(rows, count - first);
    std::fill(tokens.begin() + filled * T, tokens.end(), 0);
    std::fill(targets.begin() + filled * T, targets.end(), -1);
    source.fill(first, filled, T, tokens.data(), targets.data());
    give(tokens.data(), targets.data());
    set_scalar("loss_scale", 1.0 / static_cast<double>(filled * T));
    session_->run(*validation_);
    sum += session_->scalar_output(*validation_, "loss") * static_cast<double>(filled);
  }
  return sum / static_cast<double>(count);
}

void Trainer::give(const int32_t* tokens, const int32_t* targets) {
  for (const auto& [name, from] : {std::pair("tokens", tokens), std::pair("targets", targets)})
    std::memcpy(session_->data(name), from, static_cast<size_t>(session_->type(name).bytes()));
}

void Trainer::set_scalar(const std::string& name, double value) {
  write_tensor({session_->type(name), {value}}, session_->data(name));
}

ProbeSink Trainer::sink_of(size_t program, const ValueSink& sink) const {
  if (!sink) return {};
  return [this, program, &sink](int32_t probe, const void* data) {
    const ProbeResult& result = (*programs_)[program].probes[static_cast<size_t>(probe)];
    sink({result.id, result.type, data});
  };
}

std::vector<StateArray> Trainer::weights() {
  std::vector<StateArray> arrays;
  for (const Parameter& parameter : graphs_.parameters)
    arrays.push_back({parameter.name, parameter.type, session_->data(parameter.name)});
  return arrays;
}

std::vector<StateArray> Trainer::optimizer_state() {
  std::vector<StateArray> arrays;
  const OptimizerSlots slots = slots_of(optimizer_kind(config_.optimizer.kind));
  for (const Parameter& parameter : graphs_.parameters)
    for (const char* moment : slots.moments) {
      const std::string name = moment + parameter.name;
      arrays.push_back({name, parameter.type, session_->data(name)});
    }
  return arrays;
}

std::vector<int32_t> Trainer::sequence(int64_t step, int64_t row) const {
  const auto T = static_cast<size_t>(config_.length);
  std::vector<int32_t> tokens(T), targets(T);
  source_.fill(step * config_.batch + row, 1, config_.length, tokens.data(), targets.data());
  return tokens;
}

void initialise_parameter(const Parameter& parameter, uint64_t seed, float* data) {
  WEIR_CHECK(parameter.type.dtype == DType::f32, "a weight of {}", to_string(parameter.type));
  const int64_t count = parameter.type.elements();
  switch (parameter.initial) {
    case Initial::normal: {
      Random random(seed, weight_stream(parameter.name));
      for (int64_t i = 0; i < count; ++i)
        data[i] = static_cast<float>(parameter.deviation * random.normal());
      return;
    }
    case Initial::ones:
      std::fill(data, data + count, 1.0f);
      return;
    case Initial::zeros:
      std::fill(data, data + count, 0.0f);
      return;
  }
}

}  // namespace weir
