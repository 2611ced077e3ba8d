#pragma once
// Compiles kernels and holds their machine code. A kernel is given as a recipe that emits it, so
// that a cached object costs no emission; every kernel is a module of its own and compiles in
// parallel.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/abi.h"
#include "support/target.h"

namespace weir {

class Emitter;

struct KernelSource {
  std::string symbol;  ///< name of the kernel's function, unique within a Jit
  /// Text that determines the emitted code together with symbol, target and Weir's build: the
  /// kernel's structure, shapes and choices. "" when the object is not to be cached.
  std::string key;
  std::function<void(Emitter&)> emit;  ///< emits exactly the function `symbol`; called at most once
                                       ///< per compilation or dump, from any thread
};

struct JitOptions {
  int threads = 0;         ///< compiling threads; 0 means the target's cores
  std::string cache = "";  ///< folder of the object cache; "" keeps none (see object_cache.h)
  bool perf = false;       ///< write a jitdump for `perf inject --jit` (WEIR_PERF=1)
  bool gdb = false;        ///< name the kernels to a debugger (WEIR_GDB=1)
  bool optimised = true;   ///< false compiles the IR as emitted, to bisect an optimiser problem
};

struct JitStatistics {
  int compiled = 0, from_cache = 0;
  double seconds = 0;  ///< wall time of all add() calls
};

class Jit {
 public:
  /// Internal error when this machine cannot run `target`'s code.
  explicit Jit(const Target& target, JitOptions options = {});
  ~Jit();
  Jit(Jit&&) noexcept;

  /// Compiles and links all kernels, on all threads. Symbols are looked up among the kernels and
  /// the few functions the code generator itself may call (memcpy, memset, memmove), nowhere else.
  void add(const std::vector<KernelSource>& kernels);

  /// Address of a kernel that was added; internal error for another name. Valid as long as this
  /// Jit.
  void* lookup(const std::string& symbol) const;
  weir_kernel kernel(const std::string& symbol) const;

  const Target& target() const;
  const JitStatistics& statistics() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The kernel's LLVM IR, as emitted or after optimisation. The target need not run here.
std::string llvm_ir(const Target& target, const KernelSource& kernel, bool optimised = true);
/// The kernel's assembly. The target need not run here.
std::string assembly(const Target& target, const KernelSource& kernel);

}  // namespace weir
