#pragma once
// Planned graphs become programs that run: kernels are emitted, deduplicated by structure, compiled
// together, and bound to memory. A Session holds the named buffers that programs share.
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "codegen/matmul/plan.h"
#include "interpret/tensor_view.h"
#include "ir/graph.h"
#include "runtime/program.h"
#include "runtime/threads.h"
#include "support/target.h"

namespace weir {

struct CompileSettings {
  Target target = host_target();
  int threads = 0;         ///< compiling threads; 0: all cores
  std::string cache = {};  ///< folder of the object cache; "" keeps none
  /// Most that a chunk of logits of a loss head takes; 0: what is usual
  /// (codegen/loss_head/loss_head.h).
  int64_t logits_bytes = 0;
  bool perf = false;  ///< describe the code to `perf`, as WEIR_PERF=1 does
};

struct Argument {
  std::string name;
  Type type;
  bool state = false;  ///< an input that the program updates
};

struct ProbeResult {
  std::string id;
  Type type;
};

/// One compiled program.
struct Executable {
  GraphPtr graph;  ///< planned
  ProgramCode code;
  std::vector<int32_t> call_nodes;  ///< the kernel node of `graph` behind each kernel call
  std::vector<Argument> inputs, outputs;
  std::vector<ProbeResult> probes;
};

/// Where a value of a planned graph lies while its program runs.
BufferRef place_of(const Graph& planned, Value value);

struct CompileReport {
  int kernels = 0;   ///< kernel nodes of all programs
  int distinct = 0;  ///< after deduplication by structure
  int from_cache = 0;
  double seconds = 0;
};

/// Programs and the machine code they share.
class Executables {
 public:
  /// Compiles planned graphs together. User errors: no graph, or one that is not planned; a dtype
  /// that compiled code does not compute in.
  Executables(const std::vector<GraphPtr>& planned, const CompileSettings& settings);
  ~Executables();
  Executables(Executables&&) noexcept;

  size_t size() const { return programs_.size(); }
  /// User error for a number that is none of `size`.
  const Executable& operator[](size_t i) const;
  const CompileReport& report() const { return report_; }

 private:
  struct Code;
  std::unique_ptr<Code> code_;
  std::vector<Executable> programs_;
  CompileReport report_;
};

/// The matrix products of planned graphs whose tiles may be tuned (tile_table.h), each once.
std::vector<MatmulSpec> products_of(const std::vector<GraphPtr>& planned, const Target& target);

/// One kernel of a planned graph as text, for `weir dump`: LLVM IR or assembly of every distinct
/// kernel, in running order.
std::string dump_llvm(const Graph& planned, const Target& target);
std::string dump_assembly(const Graph& planned, const Target& target);

/// Buffers by name, shared by programs whose inputs have equal names (states above all).
class Session {
 public:
  /// All inputs of all programs get a zeroed buffer; a user error when two programs want different
  /// types under one name. `threads` workers (0: all cores).
  Session(const Executables& programs, int threads);

  const Executables& programs() const { return programs_; }
  int threads() const { return workers_.count(); }
  /// The buffer of an input, written before a run and, for states, read after; user error for an
  /// unknown name, with the nearest.
  void* data(const std::string& name);
  const Type& type(const std::string& name) const;
  /// The input as it is stored.
  TensorView view(const std::string& name);
  std::vector<std::string> names() const;

  /// User error for a number that is no program's.
  void run(size_t program, const ProbeSink& probe_sink = {}, const ProfileSink& profile_sink = {});
  /// From now on every kernel call is shown to the sink (engine/finite_check.h); {} stops that.
  void set_kernel_sink(KernelSink sink) { kernel_sink_ = std::move(sink); }
  /// An output of the program that ran last. User errors: another program, whose outputs are not in
  /// memory; an unknown name, with the nearest.
  const void* output(size_t program, const std::string& name) const;
  TensorView output_view(size_t program, const std::string& name) const;
  /// The same of an output of one element; user error for one of more.
  double scalar_output(size_t program, const std::string& name) const;

 private:
  struct Entry {
    std::string name;
    Type type;
    int64_t offset = 0;  ///< bytes into memory_
  };
  /// User error for an unknown name, with the nearest.
  const Entry& entry(const std::string& name) const;
  const Executables& programs_;
  Workers workers_;
  Workspace workspace_;
  Buffer memory_;  // of all entries: in one piece, so that none is rounded up to huge pages
  std::vector<Entry> entries_;
  std::map<std::string, size_t> entry_of_;
  std::vector<std::vector<void*>> inputs_;
  KernelSink kernel_sink_;
  std::optional<size_t> ran_;  ///< the program that ran last
};

}  // namespace weir
