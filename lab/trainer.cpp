#include "lab/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "codegen/loss_head.h"
#include "codegen/tensor_memory.h"
#include "io/hash.h"
#include "lab/memory.h"
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
  return config.memory.empty() ? free_memory() : known(parse_bytes(config.memory));
}

void check_memory(const MemoryNeed& need, const RunConfig& config) {
  const int64_t available = memory_limit(config);
  if (need.total() <= available) return;
  user_error("train",
             "the run needs {}, but {} of memory {}. Compute the batch of {} in more parts "
             "(micro_batches, now {}), or make batch or length smaller.",
             to_string(need), human_bytes(static_cast<double>(available)),
             config.memory.empty() ? "are free" : "may be used (memory)", config.batch,
             config.micro_batches);
}

}  // namespace

Trainer::Trainer(const RunConfig& config, const BatchSource& source,
                 const CompileSettings& settings, bool measured)
    : config_(config),
      source_(source),
      graphs_(make_training_graphs(config, settings.target, measured)) {
  const int threads = config.threads > 0 ? static_cast<int>(config.threads) : host_target().cores;
  const int64_t limit = memory_limit(config);
  // What workspace the kernels need is known once they are compiled; values have to make room for
  // it, and where that does not do, a loss head takes smaller chunks.
  constexpr int64_t least_logits = int64_t{16} << 20;
  CompileSettings fitting = settings;
  fitting.logits_bytes = kLogitsBytes;
  for (;; fitting.logits_bytes /= 2) {
    const int64_t workspace = compile(fitting, limit, threads);
    if (memory_.total() > limit) compile(fitting, limit - workspace, threads);
    if (memory_.total() <= limit || fitting.logits_bytes <= least_logits) break;
  }
  check_memory(memory_, config);
  session_ = std::make_unique<Session>(*programs_, threads);
}

int64_t Trainer::compile(const CompileSettings& settings, int64_t memory, int threads) {
  const CompileOptions options{.target = settings.target, .memory = memory};
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
  memory_ = shared_memory_need(planned);
  check_memory(memory_, config_);
  const int64_t results = memory_.arena;
  programs_ = std::make_unique<Executables>(planned, settings);
  for (size_t i = 0; i < programs_->size(); ++i) {
    const ProgramCode& code = (*programs_)[i].code;
    memory_.arena = std::max(memory_.arena, code.arena_bytes + threads * code.scratch_bytes);
  }
  return memory_.arena - results;
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
  WEIR_CHECK(graphs_.has_probes, "a step without probes is measured");
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
  const bool adamw = config_.optimizer.kind == "adamw";
  for (const Parameter& parameter : graphs_.parameters)
    for (const char* prefix : {adamw ? "adam.m." : "sgd.m.", "adam.v."}) {
      if (!adamw && std::string(prefix) == "adam.v.") continue;
      const std::string name = prefix + parameter.name;
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
