#include "engine/executable.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <set>
#include <thread>

#include "codegen/kernels.h"
#include "codegen/llvm/jit.h"
#include "codegen/loss_head/loss_head.h"
#include "interpret/host_tensor.h"
#include "ir/alias.h"
#include "ir/print.h"
#include "passes/plan_memory.h"
#include "runtime/run_program.h"
#include "runtime/step_queue.h"
#include "support/align.h"
#include "support/env.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {

BufferRef place_of(const Graph& graph, Value value) {
  value = strip_reshapes(graph, value);
  const Node& node = graph.node(value);
  // Inputs come first among the nodes, in order.
  if (node.op == Op::input) return {BufferRef::Kind::input, value.node};
  int64_t offset = node.attrs.get_ints(kOffset).at(value.result);
  if (offset < 0) return {BufferRef::Kind::input, -1 - offset};
  return {BufferRef::Kind::arena, offset};
}

namespace {

std::vector<InPlace> in_place_of(const Graph& graph, int32_t id) {
  const Node& node = graph.node(id);
  std::vector<InPlace> pairs;
  for (size_t r = 0; r < node.types.size(); ++r) {
    BufferRef result = place_of(graph, {id, static_cast<int32_t>(r)});
    if (result.kind != BufferRef::Kind::input) continue;
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (place_of(graph, node.inputs[i]) == result)
        pairs.push_back({static_cast<int>(i), static_cast<int>(r)});
  }
  return pairs;
}

// The distinct kernels of all programs, by structure.
class KernelTable {
 public:
  explicit KernelTable(const Target& target, TileTable tuned = {},
                       int64_t logits_bytes = kLogitsBytes)
      : target_(target), tuned_(std::move(tuned)), logits_bytes_(logits_bytes) {}

  struct Entry {
    KernelPhases phases;
    std::vector<std::string> symbols;  ///< one a code
  };

  const Entry& find(const Graph& graph, int32_t id) {
    const Node& node = graph.node(id);
    const std::string& schedule = node.attrs.get_string("schedule");
    std::vector<InPlace> in_place = in_place_of(graph, id);
    std::string key = schedule + " " + structural_key(*node.region);
    for (InPlace pair : in_place) key += fmt::format(" in place {} {}", pair.input, pair.output);
    auto [position, inserted] = entries_.try_emplace(key);
    Entry& entry = position->second;
    if (!inserted) return entry;
    entry.phases =
        make_kernel(schedule_of(node), node.region, target_, in_place, tuned_, logits_bytes_);
    uint64_t hash = XXH3_64bits(key.data(), key.size());
    for (size_t c = 0; c < entry.phases.codes.size(); ++c) {
      std::string symbol = fmt::format("{}_{:016x}", schedule, hash);
      if (entry.phases.codes.size() > 1) symbol += fmt::format("_{}", c);
      entry.symbols.push_back(symbol);
      sources_.push_back(
          {symbol, key + "\n" + entry.phases.codes[c].key,
           [emit = entry.phases.codes[c].emit, symbol](Emitter& e) { emit(e, symbol); }});
    }
    return entry;
  }

  const std::vector<KernelSource>& sources() const { return sources_; }
  size_t size() const { return entries_.size(); }

 private:
  const Target& target_;
  const TileTable tuned_;
  const int64_t logits_bytes_;
  std::map<std::string, Entry> entries_;
  std::vector<KernelSource> sources_;
};

class ProgramMaker {
 public:
  ProgramMaker(const GraphPtr& graph, KernelTable& table) : graph_(*graph), table_(table) {
    program_.graph = graph;
  }

  Executable make() {
    for (int32_t id : graph_.inputs()) {
      const Node& node = graph_.node(id);
      program_.inputs.push_back(
          {graph_.input_name(id), node.types[0], node.attrs.get_bool("state")});
    }
    program_.code.inputs = static_cast<int64_t>(program_.inputs.size());
    workspace_at_ = aligned(graph_.attrs().get_int("arena"));
    for (int32_t id = 0; id < graph_.size(); ++id) {
      if (graph_.node(id).op == Op::kernel) add_kernel(id);
      if (graph_.node(id).op == Op::probe) add_probe(id);
    }
    for (const Output& output : graph_.outputs()) add_output(output);
    program_.code.arena_bytes = workspace_at_ + workspace_bytes_;
    program_.code.after = order_of_steps(program_.code);
    return std::move(program_);
  }

 private:
  void add_kernel(int32_t id) {
    const Node& node = graph_.node(id);
    const KernelTable::Entry& entry = table_.find(graph_, id);
    std::vector<CallBuffer> buffers;
    for (Value input : node.inputs)
      buffers.push_back({place_of(graph_, input), 0, graph_.type(input).bytes(), false});
    for (size_t r = 0; r < node.types.size(); ++r)
      buffers.push_back(
          {place_of(graph_, {id, static_cast<int32_t>(r)}), 0, node.types[r].bytes(), true});
    const int64_t workspace = entry.phases.workspace_bytes;
    if (workspace > 0)
      buffers.push_back({{BufferRef::Kind::arena, place_workspace(workspace)}, 0, workspace, true});
    for (const KernelRun& run : entry.phases.runs) {
      const KernelCode& code = entry.phases.codes[run.code];
      KernelCall call{entry.symbols[run.code], nullptr, {}, code.tiles};
      if (run.buffers.empty()) call.buffers = buffers;
      for (const RunBuffer& taken : run.buffers) {
        const CallBuffer& whole = buffers.at(taken.buffer);
        call.buffers.push_back({whole.base, taken.offset,
                                taken.bytes > 0 ? taken.bytes : whole.bytes - taken.offset,
                                taken.written});
      }
      program_.code.scratch_bytes = std::max(program_.code.scratch_bytes, code.scratch_bytes);
      program_.code.steps.push_back(
          {Step::Kind::kernel, static_cast<int32_t>(program_.code.kernels.size())});
      program_.code.kernels.push_back(std::move(call));
      program_.call_nodes.push_back(id);
    }
  }

  // Small ones lie one behind the other in a ring, so that a kernel can start before the one before
  // has done with its own; a small ring, so that it stays in a cache.
  int64_t place_workspace(int64_t bytes) {
    constexpr int64_t ring = int64_t{8} << 20;
    if (next_workspace_ + bytes > ring) next_workspace_ = 0;
    const int64_t at = next_workspace_;
    next_workspace_ += aligned(bytes);
    workspace_bytes_ = std::max(workspace_bytes_, at + aligned(bytes));
    return workspace_at_ + at;
  }

  void add_probe(int32_t id) {
    const Node& node = graph_.node(id);
    int32_t index = static_cast<int32_t>(program_.probes.size());
    program_.probes.push_back({node.attrs.get_string("id"), graph_.type(node.inputs[0])});
    program_.code.probes.push_back(
        {index, place_of(graph_, node.inputs[0]), graph_.type(node.inputs[0]).bytes()});
    program_.code.steps.push_back({Step::Kind::probe, index});
  }

  void add_output(const Output& output) {
    BufferRef place = place_of(graph_, output.value);
    program_.outputs.push_back({output.name, graph_.type(output.value), false});
    program_.code.outputs.push_back(place);
    const auto state = graph_.find_input(output.name);
    if (!state || !graph_.node(*state).attrs.get_bool("state")) return;
    program_.outputs.back().state = true;
    const BufferRef own = place_of(graph_, *state);
    if (place != own) program_.code.copies.push_back({place, own.at, graph_.type(*state).bytes()});
  }

  const Graph& graph_;
  KernelTable& table_;
  Executable program_;
  int64_t workspace_at_ = 0, next_workspace_ = 0, workspace_bytes_ = 0;
};

std::string dump(const Graph& planned, const Target& target,
                 const std::function<std::string(const Target&, const KernelSource&)>& show) {
  KernelTable table(target);
  for (int32_t id = 0; id < planned.size(); ++id)
    if (planned.node(id).op == Op::kernel) table.find(planned, id);
  std::string text;
  for (const KernelSource& source : table.sources())
    text += fmt::format("; {}\n{}\n", source.symbol, show(target, source));
  return text;
}

void check_planned(const std::vector<GraphPtr>& graphs) {
  Problems problems("compile");
  if (graphs.empty()) problems.add("no graph is given.");
  for (const GraphPtr& graph : graphs) {
    if (!graph)
      problems.add("a graph is null.");
    else if (graph->stage() != Stage::planned)
      problems.add(
          fmt::format("graph {} is {}, but planned ones are compiled. Bring it there with "
                      "run_pipeline, or call "
                      "compile (engine/run.h), which does.",
                      graph->name(), stage_name(graph->stage())));
  }
  problems.raise();
}

}  // namespace

struct Executables::Code {
  explicit Code(Jit machine_code) : jit(std::move(machine_code)) {}
  Jit jit;
};

Executables::Executables(const std::vector<GraphPtr>& planned, const CompileSettings& settings) {
  auto start = std::chrono::steady_clock::now();
  check_planned(planned);
  KernelTable table(settings.target, TileTable::load(settings.cache, settings.target),
                    settings.logits_bytes > 0 ? settings.logits_bytes : kLogitsBytes);
  for (const GraphPtr& graph : planned) {
    programs_.push_back(ProgramMaker(graph, table).make());
    for (const Node& node : graph->nodes()) report_.kernels += node.op == Op::kernel;
  }
  JitOptions options;
  options.threads = settings.threads;
  options.cache = settings.cache;
  options.perf = settings.perf || environment("WEIR_PERF") == "1";
  options.gdb = environment("WEIR_GDB") == "1";
  code_ = std::make_unique<Code>(Jit(settings.target, options));
  code_->jit.add(table.sources());
  for (Executable& program : programs_)
    for (KernelCall& call : program.code.kernels) call.function = code_->jit.kernel(call.name);
  report_.distinct = static_cast<int>(table.size());
  report_.from_cache = code_->jit.statistics().from_cache;
  report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

const Executable& Executables::operator[](size_t i) const {
  if (i >= programs_.size())
    user_error("session", "there is no program {}; {}.", i,
               programs_.size() == 1 ? "the only one is 0"
                                     : fmt::format("they are 0 to {}", programs_.size() - 1));
  return programs_[i];
}

Executables::~Executables() = default;
Executables::Executables(Executables&&) noexcept = default;

std::vector<MatmulSpec> products_of(const std::vector<GraphPtr>& planned, const Target& target) {
  KernelTable table(target);
  std::vector<MatmulSpec> products;
  for (const GraphPtr& graph : planned)
    for (int32_t id = 0; id < graph->size(); ++id) {
      if (graph->node(id).op != Op::kernel) continue;
      for (const MatmulSpec& product : table.find(*graph, id).phases.products)
        if (std::find(products.begin(), products.end(), product) == products.end())
          products.push_back(product);
    }
  return products;
}

std::string dump_llvm(const Graph& planned, const Target& target) {
  return dump(planned, target,
              [](const Target& t, const KernelSource& source) { return llvm_ir(t, source); });
}

std::string dump_assembly(const Graph& planned, const Target& target) {
  return dump(planned, target,
              [](const Target& t, const KernelSource& source) { return assembly(t, source); });
}

Session::Session(const Executables& programs, int threads)
    : programs_(programs), workers_(threads > 0 ? threads : std::max(1, host_target().cores)) {
  Problems problems("session");
  int64_t bytes = 0;
  for (size_t p = 0; p < programs.size(); ++p)
    for (const Argument& input : programs[p].inputs) {
      auto [position, inserted] = entry_of_.emplace(input.name, entries_.size());
      if (inserted) {
        entries_.push_back({input.name, input.type, bytes});
        bytes += aligned(input.type.bytes());
      } else if (entries_[position->second].type != input.type) {
        problems.add(fmt::format(
            "input {} is {} in one program and {} in another. Programs share "
            "inputs by name.",
            input.name, to_string(entries_[position->second].type), to_string(input.type)));
      }
    }
  problems.raise();
  memory_ = Buffer(static_cast<size_t>(bytes));
  for (size_t p = 0; p < programs.size(); ++p) {
    workspace_.reserve(programs[p].code, workers_.count());
    inputs_.emplace_back();
    for (const Argument& input : programs[p].inputs) inputs_.back().push_back(data(input.name));
  }
}

const Session::Entry& Session::entry(const std::string& name) const {
  if (auto found = entry_of_.find(name); found != entry_of_.end()) return entries_[found->second];
  user_error("session", "no input is named {}.{}", name, did_you_mean(name, names()));
}

void* Session::data(const std::string& name) {
  return static_cast<char*>(memory_.data()) + entry(name).offset;
}
const Type& Session::type(const std::string& name) const { return entry(name).type; }

std::vector<std::string> Session::names() const {
  std::vector<std::string> result;
  for (const Entry& entry : entries_) result.push_back(entry.name);
  return result;
}

void Session::run(size_t program, const ProbeSink& probe_sink, const ProfileSink& profile_sink) {
  const Executable& executable = programs_[program];
  ran_.reset();
  run_program(executable.code, inputs_[program], workspace_, workers_, probe_sink, profile_sink,
              kernel_sink_);
  ran_ = program;
}

const void* Session::output(size_t program, const std::string& name) const {
  const Executable& executable = programs_[program];
  if (ran_ != program)
    user_error("session",
               "program {} is not the one that ran last{}, so that its outputs are not in "
               "memory. Run it first.",
               program, ran_ ? fmt::format(" ({} is)", *ran_) : "; none ran");
  std::vector<std::string> known;
  for (size_t i = 0; i < executable.outputs.size(); ++i) {
    if (executable.outputs[i].name == name)
      return output_data(executable.code, i, inputs_[program], workspace_);
    known.push_back(executable.outputs[i].name);
  }
  user_error("session", "the program has no output named {}.{}", name, did_you_mean(name, known));
}

TensorView Session::view(const std::string& name) { return {type(name), data(name)}; }

TensorView Session::output_view(size_t program, const std::string& name) const {
  const void* data = output(program, name);
  for (const Argument& output : programs_[program].outputs)
    if (output.name == name) return {output.type, data};
  internal_error_at("an output that has data is not listed");
}

double Session::scalar_output(size_t program, const std::string& name) const {
  const TensorView view = output_view(program, name);
  if (view.type().elements() != 1)
    user_error("session",
               "output {} is {}, but one number is asked for. Read it with Session::output.", name,
               to_string(view.type()));
  return view.host().data[0];
}

}  // namespace weir
