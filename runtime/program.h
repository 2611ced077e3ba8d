#pragma once
// A compiled program as the machine sees it: kernel calls on buffers, in order. It knows offsets
// and bytes, not tensors or ops.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/abi.h"
#include "runtime/buffer.h"

namespace weir {

/// A place in memory: an offset in the arena, or an input's buffer.
struct BufferRef {
  enum class Kind : uint8_t { arena, input } kind = Kind::arena;
  int64_t at = 0;  ///< bytes into the arena, or the input's position
  bool operator==(const BufferRef&) const = default;
};

/// What a kernel gets for a buffer, and how many bytes it touches from there on.
struct CallBuffer {
  BufferRef base;
  int64_t offset = 0;  ///< bytes added to the base
  int64_t bytes = 0;
  bool written = false;
};

/// One kernel over all of its tiles.
struct KernelCall {
  std::string name;  ///< symbol, as perf and profiles show it
  weir_kernel function = nullptr;
  std::vector<CallBuffer> buffers;
  int64_t tiles = 0;
};

/// Hands a buffer to the probe sink at this point of the program.
struct ProbeCall {
  int32_t probe = 0;  ///< position in the program's list of probes
  BufferRef buffer;
  int64_t bytes = 0;
};

struct Step {
  enum class Kind : uint8_t { kernel, probe } kind = Kind::kernel;
  int32_t index = 0;  ///< into kernels or probes
};

/// A state output that was not computed in place: copied into its input after the last step.
struct StateCopy {
  BufferRef from;
  int64_t input = 0;
  int64_t bytes = 0;
};

/// Receives the values of probes while a program runs, in their order and on the thread that runs
/// the program; the data is valid during the call only.
using ProbeSink = std::function<void(int32_t probe, const void* data)>;
/// Receives each kernel call's wall time in seconds.
using ProfileSink = std::function<void(const KernelCall& call, double seconds)>;

class Workspace;
class Workers;

/// What a running program works on.
struct RunningMemory {
  const std::vector<void*>& inputs;
  const Workspace& workspace;
  const Workers& workers;
};
/// Called behind every kernel call, on the thread that runs the program.
using KernelSink = std::function<void(const KernelCall& call, const RunningMemory& memory)>;

struct ProgramCode {
  std::vector<KernelCall> kernels;
  std::vector<ProbeCall> probes;
  std::vector<Step> steps;
  std::vector<std::vector<int32_t>> after;  ///< order_of_steps (step_queue.h), a list a step
  std::vector<StateCopy> copies;
  std::vector<BufferRef> outputs;
  int64_t arena_bytes = 0;
  int64_t scratch_bytes = 0;  ///< a worker's, the largest of all kernels
  int64_t inputs = 0;
};

/// Working memory that programs which never run at the same time may share.
class Workspace {
 public:
  /// Makes arena and scratch at least as large as `code` needs with `workers` workers. Contents are
  /// lost when it grows.
  void reserve(const ProgramCode& code, int workers);
  char* arena() const { return static_cast<char*>(arena_.data()); }
  char* scratch(int worker) const;
  size_t arena_bytes() const { return arena_.bytes(); }

 private:
  Buffer arena_, scratch_;
  int64_t scratch_stride_ = 0;
};

/// Where a place lies while a program runs.
char* address_of(BufferRef place, const std::vector<void*>& inputs, const Workspace& workspace);
/// What the kernel of a call gets.
std::vector<void*> buffers_of(const KernelCall& call, const std::vector<void*>& inputs,
                              const Workspace& workspace);

/// An output of the program that ran last in the workspace.
const void* output_data(const ProgramCode& code, size_t output, const std::vector<void*>& inputs,
                        const Workspace& workspace);

}  // namespace weir
