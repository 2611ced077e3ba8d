#include "lab/measure/model_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>

#include "interpret/interpret.h"
#include "interpret/tensor_memory.h"
#include "passes/pipeline.h"
#include "passes/plan_memory.h"
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
  BatchPrograms programs;         ///< of stage instrumented
  std::vector<GraphPtr> planned;  ///< none for the interpreter
  MemoryPeak peak;
};

ModelRun::Plan ModelRun::plan(int64_t rows) const {
  Plan plan;
  plan.rows = rows;
  Model model = source_.build(rows, request_.length);
  CompileOptions options = request_.options;
  options.probes = request_.probes;
  MeasuredGraph measured = measured_graph(model.graph, options);
  plan.parameters = model.parameters;
  plan.added = added_states(*model.graph, *measured.graph);
  plan.programs = make_measure_programs(measured.graph, {.loss = request_.loss ? "loss" : "",
                                                         .parts = request_.batch / rows,
                                                         .probes = measured.probes});
  plan.peak.kept = request_.kept;
  if (settings_.interpret) return plan;
  std::map<std::string, int64_t> states, inputs;
  for (const GraphPtr& graph : plan.programs.in_order()) {
    plan.planned.push_back(run_pipeline(graph, {.target = request_.options.target}).graph);
    plan.peak.arena = std::max(plan.peak.arena, memory_need(*plan.planned.back()).arena);
    for (int32_t id : graph->inputs()) {
      const bool is_state = graph->node(id).attrs.get_bool("state");
      (is_state ? states : inputs)[graph->input_name(id)] = graph->node(id).types[0].bytes();
    }
  }
  for (const Parameter& parameter : plan.parameters) {
    plan.peak.weights += states[parameter.name];
    states.erase(parameter.name);
  }
  for (const auto& [name, bytes] : states) plan.peak.state += bytes;
  for (const auto& [name, bytes] : inputs) plan.peak.inputs += bytes;
  // Beside the buffers of the programs the batch as it is cut into parts.
  plan.peak.inputs += 2 * request_.batch * request_.length * int64_t{sizeof(int32_t)};
  return plan;
}

int ModelRun::threads() const {
  return settings_.threads > 0 ? settings_.threads : host_target().cores;
}

const Executables& ModelRun::programs() const {
  if (!programs_)
    user_error("measure", "an interpreted run has no compiled programs. Run without interpret.");
  return *programs_;
}

// Of the checkpoint, while every worker reads a weight.
int64_t ModelRun::mapped_bytes() const { return threads() * source_.mapped_bytes; }

void ModelRun::refuse(const Plan& plan, const MemoryPeak& need, int64_t limit) const {
  const auto bytes = [](int64_t n) { return human_bytes(static_cast<double>(n)); };
  user_error("measure",
             "{} sequence{} of {} tokens at a time need{} {}, but only {} may be used. Allow more "
             "(--memory {}), or take shorter sequences.",
             plan.rows, plan.rows == 1 ? "" : "s", request_.length, plan.rows == 1 ? "s" : "",
             to_string(need), bytes(limit), memory_to_allow(need.needed()));
}

// The plan of the most sequences a part, fewer than `below`, that fit below `limit` before anything
// is compiled; that of the fewest if none does.
std::unique_ptr<ModelRun::Plan> ModelRun::choose(int64_t limit, int64_t below) const {
  const int64_t process = resident_memory() + mapped_bytes();
  std::vector<int64_t> candidates;
  for (int64_t rows : divisors_descending(request_.batch))
    if (rows < below) candidates.push_back(rows);
  if (settings_.interpret) candidates = {request_.batch};
  if (settings_.rows > 0) {
    candidates = {settings_.rows};
  }
  for (size_t i = 0; i < candidates.size();) {
    auto found = std::make_unique<Plan>(plan(candidates[i]));
    const MemoryPeak& peak = found->peak;
    if (settings_.interpret || i + 1 == candidates.size() || peak.needed() + process <= limit)
      return found;
    // The arena grows with the sequences; nothing else does.
    const double a_row = static_cast<double>(peak.arena) / static_cast<double>(found->rows);
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
  plan_ = choose(limit, request_.batch + 1);
  if (!settings_.interpret) compile(limit);
  rows_ = plan_->rows;
  for (const Parameter& parameter : plan_->parameters)
    parameter_count_ += parameter.type.elements();
  for (const AddedState& added : plan_->added) parameter_count_ += added.type.elements();
}

ModelRun::~ModelRun() = default;

// Compiles the plan. Kernels want workspace of their own beside the results that were planned, and
// what the code takes is known only afterwards, so fewer sequences may have to do. Compiling takes
// little memory itself, so that a refusal, too, says what a run would state.
void ModelRun::compile(int64_t limit) {
  const bool only_these = settings_.rows > 0;
  for (int64_t allowed = limit;;) {
    const int64_t before = peak_resident_memory();
    programs_ = std::make_unique<Executables>(plan_->planned,
                                              CompileSettings{.target = request_.options.target,
                                                              .threads = settings_.threads,
                                                              .cache = settings_.cache});
    const int64_t compiled_before = memory_.compiler;
    memory_ = plan_->peak;
    for (size_t i = 0; i < programs_->size(); ++i) {
      const ProgramCode& code = (*programs_)[i].code;
      memory_.arena = std::max(memory_.arena, buffer_bytes(code.arena_bytes) +
                                                  threads() * buffer_bytes(code.scratch_bytes));
    }
    memory_.add_process(before, mapped_bytes());
    memory_.compiler = std::max(memory_.compiler, compiled_before);
    if (memory_.needed() <= limit) return;
    if (plan_->rows == 1 || only_these || memory_.compiler > limit) refuse(*plan_, memory_, limit);
    allowed -= memory_.needed() - limit;
    programs_.reset();
    plan_ = choose(allowed, plan_->rows);
  }
}

CompileReport ModelRun::compile_report() const {
  return programs_ ? programs_->report() : CompileReport{};
}

void ModelRun::unload() {
  session_.reset();
  interpreted_.clear();
}

void ModelRun::load() {
  const auto fill = [&](size_t i, float* data) {
    if (i < plan_->parameters.size()) return source_.read(plan_->parameters[i], data);
    const AddedState& added = plan_->added[i - plan_->parameters.size()];
    if (!source_.read_added || !source_.read_added(added, data))
      std::memset(data, 0, static_cast<size_t>(added.type.bytes()));
  };
  const size_t count = plan_->parameters.size() + plan_->added.size();
  const auto name_of = [&](size_t i) {
    return i < plan_->parameters.size() ? plan_->parameters[i].name
                                        : plan_->added[i - plan_->parameters.size()].name;
  };
  if (settings_.interpret) {
    for (size_t i = 0; i < count; ++i) {
      const Type& type = i < plan_->parameters.size()
                             ? plan_->parameters[i].type
                             : plan_->added[i - plan_->parameters.size()].type;
      std::vector<float> data(static_cast<size_t>(type.elements()));
      fill(i, data.data());
      interpreted_[name_of(i)] = {type, {data.begin(), data.end()}};
    }
    if (source_.check_weights) source_.check_weights();
    return;
  }
  session_ = std::make_unique<Session>(*programs_, settings_.threads);
  std::vector<float*> places;
  for (size_t i = 0; i < count; ++i)
    places.push_back(static_cast<float*>(session_->data(name_of(i))));
  Workers(session_->threads())
      .parallel_tiles(
          static_cast<int64_t>(count),
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
  if (!session_ && interpreted_.empty())
    user_error("measure", "the weights are not in memory. Call load() before run().");
  check(batch);
  const auto valid = std::count_if(batch.targets.begin(), batch.targets.end(),
                                   [](int32_t target) { return target >= 0; });
  if (valid == 0 && request_.loss)
    user_error("measure", "the batch has no target that counts; all are to be ignored.");
  const double scale = valid > 0 ? 1.0 / static_cast<double>(valid) : 0;
  if (settings_.interpret) return run_interpreted(batch, scale, sink);
  return run_compiled(batch, static_cast<float>(scale), sink, profile);
}

double ModelRun::run_compiled(const TokenBatch& batch, float scale, const ValueSink& sink,
                              const ProfileSink& profile) {
  const auto sink_of = [&](size_t program) -> ProbeSink {
    if (!sink) return {};
    return [&, program](int32_t probe, const void* data) {
      const ProbeResult& result = (*programs_)[program].probes[static_cast<size_t>(probe)];
      sink({result.id, result.type, data});
    };
  };
  const auto give_part = [&](int64_t part) {
    const size_t first = static_cast<size_t>(part * rows_ * batch.length);
    const size_t bytes = static_cast<size_t>(rows_ * batch.length) * sizeof(int32_t);
    std::memcpy(session_->data("tokens"), batch.tokens.data() + first, bytes);
    std::memcpy(session_->data("targets"), batch.targets.data() + first, bytes);
  };
  std::memcpy(session_->data("loss_scale"), &scale, sizeof scale);
  if (programs_->size() == 1) {
    give_part(0);
    session_->run(0, sink_of(0), profile);
    return request_.loss ? session_->scalar_output(0, "loss") : 0;
  }
  session_->run(0, {}, profile);
  for (int64_t part = 0; part < parts(); ++part) {
    give_part(part);
    session_->run(1, sink_of(1), profile);
  }
  session_->run(2, sink_of(2), profile);
  float loss = 0;
  if (request_.loss) std::memcpy(&loss, session_->data("loss"), sizeof loss);
  return loss;
}

double ModelRun::run_interpreted(const TokenBatch& batch, double scale, const ValueSink& sink) {
  const Type type = i32({batch.batch, batch.length});
  Tensors inputs = interpreted_;
  inputs["tokens"] = {type, {batch.tokens.begin(), batch.tokens.end()}};
  inputs["targets"] = {type, {batch.targets.begin(), batch.targets.end()}};
  inputs["loss_scale"] = scalar(0);
  inputs["loss_scale"].data[0] = scale;
  Interpretation result = interpret_all(*plan_->programs.step, inputs);
  for (const auto& [id, value] : result.probes)
    if (sink) sink({id, value.type, &value});
  return request_.loss ? result.outputs.at("loss").data[0] : 0;
}

}  // namespace weir
