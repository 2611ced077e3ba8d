#include "engine/batch_runner.h"

#include <malloc.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "interpret/tensor_view.h"
#include "passes/plan_memory.h"
#include "support/error.h"

namespace weir {

std::vector<GraphPtr> BatchPlan::programs() const {
  std::vector<GraphPtr> all;
  for (const std::vector<GraphPtr>& variant : variants)
    all.insert(all.end(), variant.begin(), variant.end());
  return all;
}

MemoryPeak planned_memory(const std::vector<GraphPtr>& planned,
                          const std::set<std::string>& weights) {
  MemoryPeak peak;
  std::map<std::string, int64_t> states, inputs;
  for (const GraphPtr& graph : planned) {
    peak.arena = std::max(peak.arena, memory_need(*graph).arena);
    for (int32_t id : graph->inputs()) {
      const bool is_state = graph->node(id).attrs.get_bool("state");
      (is_state ? states : inputs)[graph->input_name(id)] = graph->node(id).types[0].bytes();
    }
  }
  for (const auto& [name, bytes] : states)
    (weights.contains(name) ? peak.weights : peak.state) += bytes;
  for (const auto& [name, bytes] : inputs)
    if (!states.contains(name)) peak.inputs += bytes;
  return peak;
}

BatchRunner::BatchRunner(const Planner& planner, int threads, int64_t file_bytes)
    : threads_(threads), file_bytes_(file_bytes) {
  std::optional<BatchPlan> plan = planner(nullptr);
  WEIR_CHECK(plan, "there is no plan to begin with");
  while (plan) {
    programs_.reset();
    plan_ = std::move(*plan);
    compile();
    plan = planner(&memory_);
  }
}

int BatchRunner::threads() const { return threads_ > 0 ? threads_ : host_target().cores; }

// Kernels want workspace of their own beside the results that were planned, which is known only
// once they are compiled.
void BatchRunner::compile() {
  // What plans before this one left to the allocator is no need of this one.
  malloc_trim(0);
  const int64_t before = peak_resident_memory(), compiled_before = memory_.compiler;
  programs_ = std::make_unique<Executables>(plan_.programs(), plan_.settings);
  memory_ = plan_.peak;
  for (size_t i = 0; i < programs_->size(); ++i) {
    const ProgramCode& code = (*programs_)[i].code;
    memory_.arena = std::max(memory_.arena, buffer_bytes(code.arena_bytes) +
                                                threads() * buffer_bytes(code.scratch_bytes));
  }
  memory_.add_process(before, file_bytes_);
  memory_.compiler = std::max(memory_.compiler, compiled_before);
}

void BatchRunner::load() {
  session_ = std::make_unique<Session>(*programs_, threads_);
  session_->set_kernel_sink(kernel_sink_);
}

void BatchRunner::set_kernel_sink(KernelSink sink) {
  kernel_sink_ = std::move(sink);
  if (session_) session_->set_kernel_sink(kernel_sink_);
}

Session& BatchRunner::session() const {
  WEIR_CHECK(session_, "the programs have no memory");
  return *session_;
}

void BatchRunner::set_scalar(const std::string& name, double value) {
  TensorView({DType::f64, {}}, &value).copy_to(session().type(name).dtype, session().data(name));
}

void BatchRunner::write_part(const std::vector<BatchInput>& inputs, int64_t part) {
  for (const BatchInput& input : inputs) {
    const auto bytes = static_cast<size_t>(session().type(input.name).bytes());
    std::memcpy(session().data(input.name),
                static_cast<const char*>(input.data) + static_cast<size_t>(part) * bytes, bytes);
  }
}

size_t BatchRunner::first_of(size_t variant) const {
  WEIR_CHECK(variant < plan_.variants.size(), "variant {} of {}", variant, plan_.variants.size());
  size_t first = 0;
  for (size_t i = 0; i < variant; ++i) first += count_of(i);
  return first;
}

void BatchRunner::run_program(size_t program, const ValueSink& sink, const ProfileSink& profile) {
  const auto hand_out = [&](int32_t probe, const void* data) {
    const ProbeResult& result = (*programs_)[program].probes[static_cast<size_t>(probe)];
    sink({result.id, result.type, TensorView(result.type, data)});
  };
  session().run(program, sink ? ProbeSink(hand_out) : ProbeSink(), profile);
}

void BatchRunner::run(size_t variant, const std::vector<BatchInput>& inputs, const ValueSink& sink,
                      const ProfileSink& profile) {
  const size_t first = first_of(variant);
  if (count_of(variant) == 1) {
    write_part(inputs, 0);
    return run_program(first, sink, profile);
  }
  WEIR_CHECK(count_of(variant) == 3, "{} programs compute a batch", count_of(variant));
  run_program(first, sink, profile);
  for (int64_t part = 0; part < plan_.parts; ++part) {
    write_part(inputs, part);
    run_program(first + 1, sink, profile);
  }
  run_program(first + 2, sink, profile);
}

double BatchRunner::scalar(size_t variant, const std::string& name) const {
  const size_t last = first_of(variant) + count_of(variant) - 1;
  const std::vector<Argument>& outputs = (*programs_)[last].outputs;
  const bool is_output = std::any_of(outputs.begin(), outputs.end(),
                                     [&](const Argument& output) { return output.name == name; });
  if (is_output) return session().scalar_output(last, name);
  return session().view(name).host().data[0];
}

}  // namespace weir
