#include "codegen/llvm/jit.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "codegen/llvm/emitter.h"
#include "codegen/llvm/object_cache.h"
#include "codegen/llvm/optimize.h"
#include "runtime/threads.h"
#include "support/error.h"
#include "support/log.h"
#include "support/value_rule.h"

namespace weir {
namespace {

/// A kernel's module with the context that owns its types and the machine it was made for.
struct Compilation {
  Compilation(const Target& target, const KernelSource& kernel)
      : machine(make_target_machine(target)),
        module(std::make_unique<llvm::Module>(kernel.symbol, context)) {
    module->setDataLayout(machine->createDataLayout());
    module->setTargetTriple(machine->getTargetTriple().str());
    Emitter emitter(*module, target);
    kernel.emit(emitter);
    verify_module(*module, "as emitted");
    const llvm::Function* function = module->getFunction(kernel.symbol);
    WEIR_CHECK(function && !function->isDeclaration(), "kernel {} did not define itself",
               kernel.symbol);
  }
  llvm::LLVMContext context;
  std::unique_ptr<llvm::TargetMachine> machine;
  std::unique_ptr<llvm::Module> module;
};

std::unique_ptr<llvm::MemoryBuffer> compile(const Target& target, const KernelSource& kernel,
                                            bool optimised) {
  Compilation unit(target, kernel);
  if (optimised) optimize(*unit.module, *unit.machine);
  // Symbols of local functions do not outlive linking, and perf would not know the kernel's body.
  for (llvm::Function& function : *unit.module)
    if (function.hasLocalLinkage()) {
      function.setLinkage(llvm::Function::ExternalLinkage);
      function.setVisibility(llvm::Function::HiddenVisibility);
    }
  return object_code(*unit.module, *unit.machine);
}

llvm::orc::ExecutorSymbolDef absolute(void* address) {
  return {llvm::orc::ExecutorAddr::fromPtr(address),
          llvm::JITSymbolFlags::Exported | llvm::JITSymbolFlags::Callable};
}

template <typename T>
T check(llvm::Expected<T> value, const char* what) {
  if (!value) internal_error_at(fmt::format("{}: {}", what, llvm::toString(value.takeError())));
  return std::move(*value);
}

void check(llvm::Error error, const char* what) {
  if (error) internal_error_at(fmt::format("{}: {}", what, llvm::toString(std::move(error))));
}

std::unique_ptr<llvm::orc::LLJIT> make_lljit(const Target& target) {
  llvm::orc::JITTargetMachineBuilder machine(make_target_machine(target)->getTargetTriple());
  std::unique_ptr<llvm::orc::LLJIT> jit = check(
      llvm::orc::LLJITBuilder()
          .setJITTargetMachineBuilder(std::move(machine))
          .setLinkProcessSymbolsByDefault(false)
          .setPlatformSetUp(llvm::orc::setUpInactivePlatform)
          .setObjectLinkingLayerCreator(
              [](llvm::orc::ExecutionSession& session,
                 const llvm::Triple&) -> llvm::Expected<std::unique_ptr<llvm::orc::ObjectLayer>> {
                return std::make_unique<llvm::orc::ObjectLinkingLayer>(session);
              })
          .create(),
      "ORC");
  // What fails is thrown by check(); ORC's own report of it on stderr says the same again.
  jit->getExecutionSession().setErrorReporter(
      [](llvm::Error error) { log_debug("ORC: {}", llvm::toString(std::move(error))); });
  return jit;
}

// LLVM writes jitdumps below JITDUMPDIR, else below the home folder, which it would make as well.
void check_jitdump_folder() {
  const char* chosen = std::getenv("JITDUMPDIR");
  const char* home = std::getenv("HOME");
  const std::filesystem::path folder = chosen ? chosen : home ? home : "";
  std::error_code ignored;
  if (chosen && folder.is_absolute()) std::filesystem::create_directories(folder, ignored);
  const std::filesystem::path below = folder / ".debug" / "jit";  // as LLVM calls it
  if (folder.is_absolute() && std::filesystem::is_directory(folder, ignored))
    std::filesystem::create_directories(below, ignored);
  if (folder.is_absolute() && access(below.c_str(), W_OK | X_OK) == 0) return;
  user_error("WEIR_PERF",
             "kernels are described to perf in files below {} ({}), which is no folder that can be "
             "written by an absolute path. Name one by JITDUMPDIR.",
             folder.empty() ? "no folder" : short_text(folder.string()),
             chosen ? "JITDUMPDIR" : "HOME");
}

void add_perf(llvm::orc::LLJIT& jit) {
  check_jitdump_folder();
  llvm::orc::ExecutionSession& session = jit.getExecutionSession();
  llvm::orc::JITDylib& hooks = session.createBareJITDylib("perf hooks");
  const auto hook = [&](const char* name, auto* function) {
    check(hooks.define(llvm::orc::absoluteSymbols(
              {{session.intern(name), absolute(reinterpret_cast<void*>(function))}})),
          "perf hook");
  };
  hook("llvm_orc_registerJITLoaderPerfStart", &llvm_orc_registerJITLoaderPerfStart);
  hook("llvm_orc_registerJITLoaderPerfEnd", &llvm_orc_registerJITLoaderPerfEnd);
  hook("llvm_orc_registerJITLoaderPerfImpl", &llvm_orc_registerJITLoaderPerfImpl);
  auto& layer = static_cast<llvm::orc::ObjectLinkingLayer&>(jit.getObjLinkingLayer());
  layer.addPlugin(check(llvm::orc::PerfSupportPlugin::Create(session.getExecutorProcessControl(),
                                                             hooks, /*EmitDebugInfo=*/false,
                                                             /*EmitUnwindInfo=*/false),
                        "perf plugin"));
}

// LLVM leaves the flags of a jitdump's header, its bytes 32 to 39, as they lay in memory, and perf
// refuses flags that it does not know. The process has the file mapped: that is how perf finds it.
void clear_jitdump_flags() {
  const std::string name = fmt::format("/jit-{}.dump", getpid());
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (!line.ends_with(name)) continue;
    std::fstream dump(line.substr(line.find('/')), std::ios::in | std::ios::out | std::ios::binary);
    dump.seekp(32);
    dump.write("\0\0\0\0\0\0\0", 8);
    if (!dump) log_warning("the flags of {} stay unset; perf may refuse it", name);
  }
}

void add_gdb(llvm::orc::LLJIT& jit) {
  llvm::orc::ExecutionSession& session = jit.getExecutionSession();
  auto& layer = static_cast<llvm::orc::ObjectLinkingLayer&>(jit.getObjLinkingLayer());
  layer.addPlugin(std::make_unique<llvm::orc::DebugObjectManagerPlugin>(
      session, check(llvm::orc::createJITLoaderGDBRegistrar(session), "gdb plugin"),
      /*RequireDebugSections=*/false, /*AutoRegisterCode=*/true));
}

}  // namespace

struct Jit::State {
  State(const Target& t, JitOptions o)
      : target(t),
        options(std::move(o)),
        cache(options.cache, target),
        workers(options.threads > 0 ? options.threads : target.cores),
        lljit(make_lljit(target)) {}

  Target target;
  JitOptions options;
  ObjectCache cache;
  Workers workers;
  std::unique_ptr<llvm::orc::LLJIT> lljit;
  std::map<std::string, void*> addresses;
  JitStatistics statistics;
};

Jit::Jit(const Target& target, JitOptions options) {
  WEIR_CHECK(runs_here(target), "this machine cannot run code for {}", print(target));
  state_ = std::make_unique<State>(target, std::move(options));
  llvm::orc::LLJIT& jit = *state_->lljit;
  if (state_->options.perf) add_perf(jit);
  if (state_->options.gdb) add_gdb(jit);
  const auto define = [&](const char* name, void* address) {
    check(jit.getMainJITDylib().define(
              llvm::orc::absoluteSymbols({{jit.mangleAndIntern(name), absolute(address)}})),
          name);
  };
  define("memcpy", reinterpret_cast<void*>(&std::memcpy));
  define("memmove", reinterpret_cast<void*>(&std::memmove));
  define("memset", reinterpret_cast<void*>(&std::memset));
}

Jit::~Jit() = default;
Jit::Jit(Jit&&) noexcept = default;

void Jit::add(const std::vector<KernelSource>& kernels) {
  const auto start = std::chrono::steady_clock::now();
  const Target& target = state_->target;
  const ObjectCache& cache = state_->cache;
  std::vector<std::unique_ptr<llvm::MemoryBuffer>> objects(kernels.size());
  std::vector<char> cached(kernels.size(), 0);
  const auto make = [&](int64_t first, int64_t last, int) {
    for (int64_t i = first; i < last; ++i) {
      const KernelSource& kernel = kernels[i];
      const std::string key = kernel.key.empty() ? "" : kernel.symbol + "\n" + kernel.key;
      const std::string found = cache.load(key);
      if (!found.empty()) {
        objects[i] = llvm::MemoryBuffer::getMemBufferCopy(found, kernel.symbol);
        cached[i] = 1;
        continue;
      }
      objects[i] = compile(target, kernel, state_->options.optimised);
      cache.store(key, {objects[i]->getBufferStart(), objects[i]->getBufferSize()});
    }
  };
  state_->workers.parallel_tiles(static_cast<int64_t>(kernels.size()), make, 1);
  for (size_t i = 0; i < kernels.size(); ++i) {
    check(state_->lljit->addObjectFile(std::move(objects[i])), kernels[i].symbol.c_str());
    ++(cached[i] ? state_->statistics.from_cache : state_->statistics.compiled);
  }
  for (const KernelSource& kernel : kernels)
    state_->addresses[kernel.symbol] =
        check(state_->lljit->lookup(kernel.symbol), kernel.symbol.c_str()).toPtr<void*>();
  if (state_->options.perf) clear_jitdump_flags();
  state_->statistics.seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void* Jit::lookup(const std::string& symbol) const {
  const auto found = state_->addresses.find(symbol);
  WEIR_CHECK(found != state_->addresses.end(), "no kernel {} was added", symbol);
  return found->second;
}

weir_kernel Jit::kernel(const std::string& symbol) const {
  return reinterpret_cast<weir_kernel>(lookup(symbol));
}

const Target& Jit::target() const { return state_->target; }
const JitStatistics& Jit::statistics() const { return state_->statistics; }

std::string llvm_ir(const Target& target, const KernelSource& kernel, bool optimised) {
  Compilation unit(target, kernel);
  if (optimised) optimize(*unit.module, *unit.machine);
  return ir_text(*unit.module);
}

std::string assembly(const Target& target, const KernelSource& kernel) {
  Compilation unit(target, kernel);
  optimize(*unit.module, *unit.machine);
  return assembly_text(*unit.module, *unit.machine);
}

}  // namespace weir
