#include "lab/measure/model_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <set>

#include "interpret/interpret.h"
#include "ir/rewrite_state.h"
#include "passes/pipeline.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

std::vector<int64_t> divisors_descending(int64_t n) {
  std::vector<int64_t> divisors;
  for (int64_t d = n; d >= 1; --d)
    if (n % d == 0) divisors.push_back(d);
  return divisors;
}

}  // namespace

TokenBatch token_batch(int64_t B, int64_t T, std::span<const int32_t> ids) {
  if (B < 1 || T < 1 || static_cast<int64_t>(ids.size()) != B * (T + 1))
    user_error("tokens",
               "{} ids are given for {} sequences of {}, but {} are needed: one more a sequence, "
               "the last target.",
               ids.size(), B, T, B * (T + 1));
  TokenBatch batch{B, T, {}, {}};
  for (int64_t b = 0; b < B; ++b) {
    const auto row = ids.subspan(static_cast<size_t>(b * (T + 1)), static_cast<size_t>(T + 1));
    batch.tokens.insert(batch.tokens.end(), row.begin(), row.end() - 1);
    batch.targets.insert(batch.targets.end(), row.begin() + 1, row.end());
  }
  return batch;
}

/// The programs for one number of sequences a part.
struct ModelRun::Plan {
  int64_t rows = 0;
  std::vector<Parameter> parameters;
  std::vector<AddedState> added;
  std::vector<GraphPtr> programs;  ///< of stage instrumented, in running order
  BatchPlan compiled;              ///< without programs for the interpreter

  // Weights and states that rewrites add, in this order.
  std::vector<AddedState> states() const {
    std::vector<AddedState> all;
    for (const Parameter& parameter : parameters) all.push_back({parameter.name, parameter.type});
    all.insert(all.end(), added.begin(), added.end());
    return all;
  }
};

ModelRun::Plan ModelRun::plan(int64_t rows) const {
  Plan plan;
  plan.rows = rows;
  const int64_t parts = request_.batch / rows;
  Model model = source_.build(rows, request_.length);
  check_model(model, rows, request_.length);
  CompileOptions options = request_.options;
  options.probes = request_.probes;
  options.compose = {.purpose = request_.purpose,
                     .parts = parts,
                     .returns_loss = request_.loss,
                     .sink = request_.sink};
  options.stop = Stage::built;
  const GraphPtr rewritten = run_pipeline(model.graph, options).graph;
  plan.parameters = model.parameters;
  plan.added = added_states(*model.graph, *rewritten);
  options.stop = Stage::instrumented;
  // The interpreter takes them as they are; compiled ones go on below.
  if (!settings_.interpret) options.decompose = DecomposeMode::none;
  plan.programs = run_pipeline(model.graph, options).programs;
  if (settings_.plant_fault)
    for (GraphPtr& program : plan.programs) program = settings_.plant_fault(program);
  if (settings_.interpret) return plan;
  plan.compiled = {
      .variants = {run_pipeline(plan.programs,
                                {.target = options.target, .decompose = request_.options.decompose})
                       .programs},
      .parts = parts,
      .settings = {
          .target = options.target, .threads = settings_.threads, .cache = settings_.cache}};
  std::set<std::string> weights;
  for (const Parameter& parameter : plan.parameters) weights.insert(parameter.name);
  MemoryPeak& peak = plan.compiled.peak = planned_memory(plan.compiled.programs(), weights);
  peak.kept = request_.kept;
  // Beside the buffers of the programs the batch as it is cut into parts.
  peak.inputs += 2 * request_.batch * request_.length * int64_t{sizeof(int32_t)};
  return plan;
}

int ModelRun::threads() const {
  return settings_.threads > 0 ? settings_.threads : host_target().cores;
}

int64_t ModelRun::rows() const { return plan_->rows; }

const MemoryPeak& ModelRun::memory() const {
  static const MemoryPeak none;
  return runner_ ? runner_->memory() : none;
}

const Executables& ModelRun::programs() const {
  if (!runner_)
    user_error("measure", "an interpreted run has no compiled programs. Run without interpret.");
  return runner_->programs();
}

// Of the checkpoint, while every worker reads a weight.
int64_t ModelRun::mapped_bytes() const { return threads() * source_.mapped_bytes; }

void ModelRun::refuse(const MemoryPeak& need, int64_t limit) const {
  const auto bytes = [](int64_t n) { return human_bytes(static_cast<double>(n)); };
  user_error("measure",
             "{} sequence{} of {} tokens at a time need{} {}, but only {} may be used. Allow more "
             "(--memory {}), or take shorter sequences.",
             rows(), rows() == 1 ? "" : "s", request_.length, rows() == 1 ? "s" : "",
             to_string(need), bytes(limit), memory_to_allow(need.needed()));
}

// The plan of the most sequences a part, fewer than `below`, that fit below `limit` before anything
// is compiled; that of the fewest if none does.
ModelRun::Plan ModelRun::choose(int64_t limit, int64_t below) const {
  const int64_t process = resident_memory() + mapped_bytes();
  std::vector<int64_t> candidates;
  for (int64_t rows : divisors_descending(request_.batch))
    if (rows < below) candidates.push_back(rows);
  if (settings_.interpret) candidates = {request_.batch};
  if (settings_.rows > 0) {
    candidates = {settings_.rows};
  }
  for (size_t i = 0; i < candidates.size();) {
    Plan found = plan(candidates[i]);
    const MemoryPeak& peak = found.compiled.peak;
    if (settings_.interpret || i + 1 == candidates.size() || peak.needed() + process <= limit)
      return found;
    // The arena grows with the sequences; nothing else does.
    const double a_row = static_cast<double>(peak.arena) / static_cast<double>(found.rows);
    const auto fixed = static_cast<double>(peak.needed() - peak.arena + process);
    ++i;
    while (i + 1 < candidates.size() &&
           fixed + a_row * static_cast<double>(candidates[i]) > static_cast<double>(limit))
      ++i;
  }
  internal_error_at("no part to choose");
}

ModelRun::ModelRun(const ModelSource& source, const RunRequest& request,
                   const RunSettings& settings)
    : source_(source), request_(request), settings_(settings) {
  if (request.batch < 1 || request.length < 1)
    user_error("measure", "a batch of {} x {} tokens is asked for, but at least 1 x 1 is needed.",
               request.batch, request.length);
  if (settings_.rows < 0 || (settings_.rows > 0 && request.batch % settings_.rows != 0))
    user_error("measure", "{} sequences cannot be computed in parts of {}. Give a divisor.",
               request.batch, settings_.rows);
  const int64_t limit = settings.memory > 0 ? settings.memory : free_memory() + resident_memory();
  if (settings_.interpret)
    plan_ = std::make_unique<Plan>(choose(limit, request_.batch + 1));
  else
    runner_ = std::make_unique<BatchRunner>(planner(limit), settings_.threads, mapped_bytes());
  if (runner_ && settings_.check_finite) {
    finite_.emplace(runner_->programs(), rows());
    runner_->set_kernel_sink(finite_->sink());
  }
  for (const AddedState& state : plan_->states()) parameter_count_ += state.type.elements();
}

ModelRun::~ModelRun() = default;

const std::optional<NotFinite>& ModelRun::not_finite() const {
  static const std::optional<NotFinite> none;
  return finite_ ? finite_->first() : none;
}

// What the code takes is known only once it is compiled, so fewer sequences may have to do.
// Compiling takes little memory itself, so that a refusal, too, says what a run would state.
BatchRunner::Planner ModelRun::planner(int64_t limit) {
  return
      [this, limit, allowed = limit](const MemoryPeak* last) mutable -> std::optional<BatchPlan> {
        if (last) {
          if (last->needed() <= limit) return std::nullopt;
          if (plan_->rows == 1 || settings_.rows > 0 || last->compiler > limit)
            refuse(*last, limit);
          allowed -= last->needed() - limit;
        }
        const int64_t below = last ? plan_->rows : request_.batch + 1;
        plan_ = std::make_unique<Plan>(choose(allowed, below));
        return plan_->compiled;
      };
}

CompileReport ModelRun::compile_report() const {
  return runner_ ? runner_->programs().report() : CompileReport{};
}

void ModelRun::unload() {
  if (runner_) runner_->unload();
  interpreted_.clear();
}

void ModelRun::load() {
  const std::vector<AddedState> states = plan_->states();
  const auto fill = [&](size_t i, float* data) {
    if (i < plan_->parameters.size()) return source_.read(plan_->parameters[i], data);
    if (!source_.read_added || !source_.read_added(states[i], data))
      std::fill_n(data, states[i].type.elements(),
                  static_cast<float>(first_value_of(states[i].name)));
  };
  if (settings_.interpret) {
    for (size_t i = 0; i < states.size(); ++i) {
      std::vector<float> data(static_cast<size_t>(states[i].type.elements()));
      fill(i, data.data());
      interpreted_[states[i].name] = {states[i].type, {data.begin(), data.end()}};
    }
    if (source_.check_weights) source_.check_weights();
    return;
  }
  if (!runner_->is_loaded()) runner_->load();
  std::vector<float*> places;
  for (const AddedState& state : states)
    places.push_back(static_cast<float*>(runner_->session().data(state.name)));
  Workers(threads()).parallel_tiles(
      static_cast<int64_t>(states.size()),
      [&](int64_t first, int64_t last, int) {
        for (int64_t i = first; i < last; ++i)
          fill(static_cast<size_t>(i), places[static_cast<size_t>(i)]);
      },
      1);
  if (source_.check_weights) source_.check_weights();
}

void ModelRun::check(const TokenBatch& batch) const {
  Problems problems("measure");
  const auto count = static_cast<size_t>(request_.batch * request_.length);
  if (batch.batch != request_.batch || batch.length != request_.length)
    problems.add(fmt::format("a batch of {} x {} tokens is given to programs of {} x {}.",
                             batch.batch, batch.length, request_.batch, request_.length));
  else if (batch.tokens.size() != count || batch.targets.size() != count)
    problems.add(fmt::format("{} tokens and {} targets are given, but {} x {} are needed of each.",
                             batch.tokens.size(), batch.targets.size(), batch.batch, batch.length));
  const int64_t vocabulary = source_.sizes.vocabulary;
  const auto first_bad = [&](const std::vector<int32_t>& ids, int32_t least) {
    return std::find_if(ids.begin(), ids.end(),
                        [&](int32_t id) { return id < least || id >= vocabulary; });
  };
  if (auto bad = first_bad(batch.tokens, 0); bad != batch.tokens.end())
    problems.add(fmt::format("token {} at {} is outside of the vocabulary of {}.", *bad,
                             bad - batch.tokens.begin(), vocabulary));
  if (auto bad = first_bad(batch.targets, std::numeric_limits<int32_t>::min());
      bad != batch.targets.end())
    problems.add(fmt::format("target {} at {} is outside of the vocabulary of {}.", *bad,
                             bad - batch.targets.begin(), vocabulary));
  problems.raise();
}

double ModelRun::run(const TokenBatch& batch, const ValueSink& sink, const ProfileSink& profile) {
  if (!(runner_ && runner_->is_loaded()) && interpreted_.empty())
    user_error("measure", "the weights are not in memory. Call load() before run().");
  check(batch);
  const auto valid = std::count_if(batch.targets.begin(), batch.targets.end(),
                                   [](int32_t target) { return target >= 0; });
  if (valid == 0 && request_.loss)
    user_error("measure", "the batch has no target that counts; all are to be ignored.");
  const double scale = valid > 0 ? 1.0 / static_cast<double>(valid) : 0;
  if (settings_.interpret) return run_interpreted(batch, scale, sink);
  if (finite_) finite_->clear();
  runner_->set_scalar("loss_scale", scale);
  runner_->run(0, {{"tokens", batch.tokens.data()}, {"targets", batch.targets.data()}}, sink,
               profile);
  return request_.loss ? runner_->scalar(0, "loss") : 0;
}

double ModelRun::run_interpreted(const TokenBatch& batch, double scale, const ValueSink& sink) {
  const Type type = i32({batch.batch, batch.length});
  Tensors inputs = interpreted_;
  inputs["tokens"] = {type, {batch.tokens.begin(), batch.tokens.end()}};
  inputs["targets"] = {type, {batch.targets.begin(), batch.targets.end()}};
  inputs["loss_scale"] = scalar(0);
  inputs["loss_scale"].data[0] = scale;
  Interpretation result = interpret_all(*plan_->programs.front(), inputs);
  for (const auto& [id, value] : result.probes)
    if (sink) sink({id, value.type, value});
  return request_.loss ? result.outputs.at("loss").data[0] : 0;
}

}  // namespace weir
