#include "lab/train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>

#include "codegen/loss_head/loss_head.h"
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

// Variants of the runner; validation comes last.
constexpr size_t kPlain = 0, kProbed = 1;

int64_t memory_limit(const RunConfig& config) {
  return config.memory.empty() ? free_memory() + resident_memory()
                               : expect(parse_bytes(config.memory));
}

}  // namespace

Trainer::Trainer(const RunConfig& config, const BatchSource& source,
                 const CompileSettings& settings, bool measured)
    : config_(config),
      source_(source),
      graphs_(make_training_graphs(config, settings.target, measured)),
      limit_(memory_limit(config)) {
  // A checkpoint is read tensor by tensor.
  int64_t largest = 0;
  for (const Parameter& parameter : graphs_.parameters)
    largest = std::max(largest, parameter.type.bytes());
  runner_ =
      std::make_unique<BatchRunner>(planner(settings), static_cast<int>(config.threads), largest);
  check_memory(runner_->memory());
  runner_->load();
}

// What kernels and compiler need is known once programs are compiled; values have to make room for
// it, and where that does not do, a loss head takes smaller chunks.
BatchRunner::Planner Trainer::planner(const CompileSettings& settings) {
  return [this, fitting = settings, allowed = int64_t{0},
          tries = 0](const MemoryPeak* last) mutable -> std::optional<BatchPlan> {
    constexpr int64_t least_logits = int64_t{16} << 20;
    constexpr int most_tries = 4;  // to make room before chunks become smaller
    if (!last) {
      fitting.logits_bytes = kLogitsBytes;
      allowed = limit_ - resident_memory();
      return plan(fitting, allowed);
    }
    const int64_t excess = last->running() - limit_;
    if (excess <= 0) return std::nullopt;
    allowed = std::max<int64_t>(1, allowed - excess);
    if (++tries > most_tries) {
      const bool hopeless = excess > last->arena;
      if (hopeless || fitting.logits_bytes <= least_logits) return std::nullopt;
      fitting.logits_bytes /= 2;
    }
    return plan(fitting, allowed);
  };
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

// The programs, recomputed as far as `memory` bytes ask for it, and what is kept of a measured
// step.
BatchPlan Trainer::plan(const CompileSettings& settings, int64_t memory) const {
  const CompileOptions options{.target = settings.target, .memory = std::max<int64_t>(0, memory)};
  BatchPlan plan{.variants = {}, .parts = config_.micro_batches, .settings = settings};
  for (const auto* programs : {&graphs_.plain, &graphs_.probed, &graphs_.validation})
    if (!programs->empty()) plan.variants.push_back(run_pipeline(*programs, options).programs);
  std::set<std::string> weights;
  for (const Parameter& parameter : graphs_.parameters) weights.insert(parameter.name);
  const std::vector<GraphPtr> planned = plan.programs();
  MemoryPeak& peak = plan.peak = planned_memory(planned, weights);
  // Beside the buffers of the programs the batch as it is cut into parts.
  peak.inputs += 2 * config_.batch * config_.length * int64_t{sizeof(int32_t)};
  if (graphs_.probed.empty()) return plan;
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
  return plan;
}

void Trainer::initialise() {
  for (const Parameter& parameter : graphs_.parameters)
    initialise_parameter(parameter, config_.seed,
                         static_cast<float*>(runner_->session().data(parameter.name)));
  for (const StateArray& array : optimizer_state())
    std::memset(array.data, 0, static_cast<size_t>(array.type.bytes()));
}

StepResult Trainer::step(int64_t step) { return run(step, kPlain, {}); }

StepResult Trainer::measured_step(int64_t step, const ValueSink& sink) {
  // The hooks of a model of one's own may carry nothing of the record.
  if (graphs_.probed.empty() && !graphs_.metrics.missing.empty()) return run(step, kPlain, {});
  if (graphs_.probed.empty())
    user_error("train",
               "a step cannot be measured: the trainer was made without probes. Make it with "
               "measured = true and something to measure.");
  return run(step, kProbed, sink);
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

StepResult Trainer::run(int64_t step, size_t variant, const ValueSink& sink) {
  if (step < 0) user_error("train", "step {} is asked for, but steps count from 0.", step);
  const int64_t T = config_.length;
  std::vector<int32_t> tokens(static_cast<size_t>(config_.batch * T)), targets(tokens.size());
  source_.fill(step * config_.batch, config_.batch, T, tokens.data(), targets.data());
  const auto valid =
      std::count_if(targets.begin(), targets.end(), [](int32_t t) { return t >= 0; });
  if (valid == 0)
    user_error("train", "batch {} has no target that counts; all are to be ignored.", step);
  runner_->set_scalar("loss_scale", 1.0 / static_cast<double>(valid));
  const double rate = learning_rate(config_.optimizer, step, config_.steps);
  runner_->set_scalar("rate", rate);
  if (scalars_of_step(optimizer_kind(config_.optimizer.kind)).size() > 1) {
    runner_->set_scalar("bias1", bias_correction(config_.optimizer.beta1, step + 1));
    runner_->set_scalar("bias2", bias_correction(config_.optimizer.beta2, step + 1));
  }
  runner_->run(variant, {{"tokens", tokens.data()}, {"targets", targets.data()}}, sink, profile_);
  return {runner_->scalar(variant, "loss"), runner_->scalar(variant, "grad_norm"), rate};
}

ValidationResult Trainer::validate(const BatchSource& source, int64_t count) {
  WEIR_CHECK(!graphs_.validation.empty(), "a run without a program for validation");
  const size_t variant = graphs_.probed.empty() ? kProbed : kProbed + 1;
  const int64_t T = config_.length, rows = config_.batch / config_.micro_batches;
  std::vector<int32_t> tokens(static_cast<size_t>(rows * T)), targets(tokens.size());
  ValidationResult result;
  double sum = 0, recalled = 0;
  const ValueSink sink = [&](const ProbeValue& value) {
    for (double hits : value.host().data) recalled += hits;
  };
  for (int64_t first = 0; first < count; first += rows) {
    const int64_t filled = std::min(rows, count - first);
    std::fill(tokens.begin() + filled * T, tokens.end(), 0);
    std::fill(targets.begin() + filled * T, targets.end(), -1);
    source.fill(first, filled, T, tokens.data(), targets.data());
    const auto valid =
        std::count_if(targets.begin(), targets.end(), [](int32_t target) { return target >= 0; });
    if (valid == 0) continue;
    runner_->set_scalar("loss_scale", 1.0 / static_cast<double>(valid));
    runner_->run(variant, {{"tokens", tokens.data()}, {"targets", targets.data()}}, sink);
    // By sequences, of which a text has whole ones.
    sum += runner_->scalar(variant, "loss") * (static_cast<double>(valid) / static_cast<double>(T));
    result.targets += valid;
  }
  const auto targets_of_all = static_cast<double>(result.targets);
  result.loss = sum / (targets_of_all / static_cast<double>(T));
  if (tells_recalled(config_)) result.recalled = recalled / targets_of_all;
  return result;
}

std::vector<StateArray> Trainer::weights() {
  std::vector<StateArray> arrays;
  for (const Parameter& parameter : graphs_.parameters)
    arrays.push_back({parameter.name, parameter.type, runner_->session().data(parameter.name)});
  return arrays;
}

std::vector<StateArray> Trainer::optimizer_state() {
  std::vector<StateArray> arrays;
  const OptimizerKind kind = optimizer_kind(config_.optimizer.kind);
  for (const Parameter& parameter : graphs_.parameters)
    for (const char* moment : slots_of(rule_for(kind, parameter)).moments) {
      const std::string name = moment + parameter.name;
      arrays.push_back({name, parameter.type, runner_->session().data(name)});
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
