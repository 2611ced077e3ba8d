// weir run: a graph's text executed on seeded inputs, its results as checksums.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "codegen/llvm/object_cache.h"
#include "engine/executable.h"
#include "engine/memory.h"
#include "interpret/interpret.h"
#include "interpret/tensor_view.h"
#include "io/file.h"
#include "io/hash.h"
#include "ir/parse.h"
#include "ir/verify.h"
#include "passes/pipeline.h"
#include "passes/plan_memory.h"
#include "support/error.h"
#include "support/log.h"
#include "support/text.h"
#include "tools/command.h"
#include "tools/seeded_inputs.h"

namespace weir {
namespace {

struct RunArguments {
  std::string file, memory;
  bool interpreter = false, jit = false;
  int threads = 0;
  uint64_t seed = 1;
};

// One line of the table: what a result sums to, and the hash of its bytes if compiled code made it.
struct Checksum {
  std::string kind, name, type;
  double sum = 0, absolute = 0;
  std::string bits;
};

Checksum checksum(const std::string& kind, const std::string& name, const HostTensor& tensor) {
  Checksum result{kind, name, to_string(tensor.type), 0, 0, ""};
  for (double value : tensor.data) {
    result.sum += value;
    result.absolute += std::abs(value);
  }
  return result;
}

Checksum checksum(const std::string& kind, const std::string& name, const Type& type,
                  const void* data) {
  Checksum result = checksum(kind, name, TensorView(type, data).host());
  result.bits = fmt::format(
      "{:016x}", hash_64({static_cast<const char*>(data), static_cast<size_t>(type.bytes())}));
  return result;
}

std::vector<Checksum> run_interpreter(const Graph& graph, const Tensors& inputs) {
  Interpretation run = interpret_all(graph, inputs);
  std::vector<Checksum> sums;
  for (const Output& output : graph.outputs())
    sums.push_back(checksum("output", output.name, run.outputs.at(output.name)));
  for (const auto& [id, value] : run.probes) sums.push_back(checksum("probe", id, value));
  return sums;
}

int64_t memory_limit(const RunArguments& options) {
  return options.memory.empty() ? free_memory() + resident_memory()
                                : expect(parse_bytes(options.memory));
}

// What the compiled program takes in all, beside it inputs and one result at a time as f64.
MemoryPeak planned_peak(const Graph& planned, const Executable& program, int threads) {
  const MemoryNeed need = memory_need(planned);
  int64_t values = 0, largest = 0;
  for (const Argument& input : program.inputs) values += input.type.elements();
  for (const Argument& output : program.outputs)
    largest = std::max(largest, output.type.elements());
  for (const ProbeResult& probe : program.probes)
    largest = std::max(largest, probe.type.elements());
  MemoryPeak peak;
  peak.state = need.state;
  peak.arena = std::max(need.arena, buffer_bytes(program.code.arena_bytes) +
                                        threads * buffer_bytes(program.code.scratch_bytes));
  peak.inputs = need.inputs + int64_t{sizeof(double)} * values;
  peak.kept = int64_t{sizeof(double)} * largest;
  return peak;
}

void state_memory(const MemoryPeak& peak, const RunArguments& options) {
  const int64_t limit = memory_limit(options);
  if (peak.needed() > limit)
    user_error(
        "memory",
        "{} needs {}, but {} of memory {}. Allow more (--memory {}), or take smaller shapes.",
        options.file, to_string(peak), human_bytes(static_cast<double>(limit)),
        options.memory.empty() ? "are free" : "may be used (--memory)",
        memory_to_allow(peak.needed()));
  // Beside the table, which is the same for any number of threads.
  log_info("Peak memory {}", to_string(peak));
}

std::vector<Checksum> run_jit(const GraphPtr& graph, const RunArguments& options) {
  const Target target = chosen_target(true);
  const int chosen = chosen_threads(options.threads);
  const int threads = chosen > 0 ? chosen : target.cores;
  GraphPtr planned = run_pipeline(graph, {.target = target}).graph;
  const int64_t before = peak_resident_memory();
  Executables programs({planned}, {.target = target, .cache = default_object_cache()});
  MemoryPeak peak = planned_peak(*planned, programs[0], threads);
  peak.add_process(before, 0);
  state_memory(peak, options);
  const Tensors inputs = seeded_inputs(*graph, options.seed);
  Session session(programs, threads);
  for (const auto& [name, value] : inputs)
    TensorView(value).copy_to(value.type.dtype, session.data(name));
  std::vector<Checksum> probes, sums;
  const Executable& program = programs[0];
  session.run(0, [&](int32_t index, const void* data) {
    const ProbeResult& probe = program.probes[static_cast<size_t>(index)];
    probes.push_back(checksum("probe", probe.id, probe.type, data));
  });
  for (const Argument& output : program.outputs)
    sums.push_back(checksum("output", output.name, output.type, session.output(0, output.name)));
  std::sort(probes.begin(), probes.end(),
            [](const Checksum& a, const Checksum& b) { return a.name < b.name; });
  sums.insert(sums.end(), probes.begin(), probes.end());
  return sums;
}

// Inputs and outputs are held as f64 beside what the program takes: a bound from below, before
// anything is compiled.
void check_memory(const Graph& graph, const RunArguments& options) {
  double elements = 0, largest = 0;
  const auto count = [&](const Value& value) {
    double product = 1;
    for (int64_t extent : graph.type(value).shape) product *= static_cast<double>(extent);
    return product;
  };
  for (int32_t id : graph.inputs()) elements += count({id, 0});
  for (const Output& output : graph.outputs()) elements += count(output.value);
  for (int32_t id = 0; id < graph.size(); ++id)
    if (!graph.node(id).types.empty()) largest = std::max(largest, count({id, 0}));
  const double bytes =
      sizeof(double) * (elements + largest) + static_cast<double>(resident_memory());
  const auto limit = static_cast<double>(memory_limit(options));
  if (bytes > limit)
    user_error(
        "memory",
        "{} needs at least {} in all for inputs, outputs and largest value, but {} {}. Allow "
        "more (--memory), or take smaller shapes.",
        options.file, human_bytes(bytes), human_bytes(limit),
        options.memory.empty() ? "are free" : "may be used (--memory)");
  if (options.interpreter)
    log_info("Memory at least {} in all for inputs, outputs and largest value as f64",
             human_bytes(bytes));
}

int run_run(const RunArguments& options) {
  GraphPtr graph = parse_graph(read_file(options.file), options.file);
  verify_user(*graph, options.file);
  check_plan_user(*graph, options.file);
  check_memory(*graph, options);
  const std::vector<Checksum> sums =
      options.interpreter ? run_interpreter(*graph, seeded_inputs(*graph, options.seed))
                          : run_jit(graph, options);
  size_t name_width = 4, type_width = 4;
  for (const Checksum& sum : sums) {
    name_width = std::max(name_width, sum.name.size());
    type_width = std::max(type_width, sum.type.size());
  }
  fmt::print("{:<6}  {:<{}}  {:<{}}  {:>16}  {:>16}  bits\n", "", "name", name_width, "type",
             type_width, "sum", "sum of |x|");
  for (const Checksum& sum : sums)
    fmt::print("{:<6}  {:<{}}  {:<{}}  {:>16.9g}  {:>16.9g}  {}\n", sum.kind, sum.name, name_width,
               sum.type, type_width, sum.sum, sum.absolute, sum.bits.empty() ? "-" : sum.bits);
  return 0;
}

}  // namespace

void add_run(Commands& commands) {
  auto options = std::make_shared<RunArguments>();
  OptionTable& table =
      add_command(commands, "run", "run a program on seeded inputs and print checksums");
  table.add("file", &options->file, input_path(), "a graph as text, of any stage").needed();
  table.flag("--interpreter", options->interpreter, "by definition, in f64");
  table.flag("--jit", options->jit, "compiled, in f32; so it is without --interpreter");
  table.exclude("--interpreter", "--jit");
  table.add("--threads", &options->threads, thread_count(), "worker threads; 0 takes all cores");
  table.add("--memory", &options->memory, memory_size(),
            "memory that the process may take in all, e.g. 8GiB; what is free if not given");
  table.exclude("--memory", "--interpreter", kInterpreterMemory);
  table.add("--seed", &options->seed, within(0), "of the inputs").with_default();
  table.footer(
      "Interpreter and compiled code agree to 1e-4 of the sum of |x|; the bits of compiled code "
      "are\n"
      "the same for any number of threads.\n\nExamples:\n"
      "  weir dump --layers 2 --set batch=2 > model.weir\n"
      "  weir run model.weir\n  weir run model.weir --interpreter\n"
      "  weir run model.weir --threads 1 --seed 7");
  table.action([options] { return run_run(*options); });
}

}  // namespace weir
