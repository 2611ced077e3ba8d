#include "codegen/llvm/optimize.h"

#include <mutex>

#include "support/error.h"

namespace weir {
namespace {

// Scalar clean-up only: kernels come with their vectors, blocking and unrolling chosen. What is
// left to do is to share addresses and loads, to move what is constant out of loops and to drop
// what is dead.
constexpr const char* pipeline =
    "always-inline,"
    "function("
    "sroa,early-cse<memssa>,instcombine<no-verify-fixpoint>,simplifycfg,"
    "loop-mssa(licm),gvn,"
    "instcombine<no-verify-fixpoint>,simplifycfg,"
    "loop-mssa(licm),dse,adce"
    "),globaldce";

void register_x86() {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeX86AsmParser();
  });
}

llvm::SmallVector<char, 0> generate(llvm::Module& module, llvm::TargetMachine& machine,
                                    llvm::CodeGenFileType type) {
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager passes;
  const bool unsupported = machine.addPassesToEmitFile(passes, stream, nullptr, type);
  WEIR_CHECK(!unsupported, "LLVM cannot emit this file type");
  passes.run(module);
  return bytes;
}

}  // namespace

std::unique_ptr<llvm::TargetMachine> make_target_machine(const Target& target) {
  register_x86();
  const std::string triple = "x86_64-unknown-linux-gnu";
  std::string error;
  const llvm::Target* llvm_target = llvm::TargetRegistry::lookupTarget(triple, error);
  WEIR_CHECK(llvm_target, "LLVM has no {}: {}", triple, error);
  std::string features;
  for (const std::string& feature : target.features)
    features += (features.empty() ? "+" : ",+") + feature;
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  options.ExceptionModel = llvm::ExceptionHandling::None;
  return std::unique_ptr<llvm::TargetMachine>(llvm_target->createTargetMachine(
      triple, target.cpu, features, options, llvm::Reloc::PIC_, llvm::CodeModel::Small,
      llvm::CodeGenOptLevel::Default, /*JIT=*/true));
}

void verify_module(const llvm::Module& module, const char* when) {
  std::string report;
  llvm::raw_string_ostream stream(report);
  if (llvm::verifyModule(module, &stream))
    internal_error_at(fmt::format("LLVM refuses the module {} {}: {}\n{}",
                                  std::string(module.getName()), when, report, ir_text(module)));
}

void optimize(llvm::Module& module, llvm::TargetMachine& machine) {
  verify_module(module, "before optimisation");
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager call_graphs;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(&machine);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(call_graphs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, call_graphs, modules);
  llvm::ModulePassManager passes;
  llvm::Error error = builder.parsePassPipeline(passes, pipeline);
  WEIR_CHECK(!error, "pass pipeline: {}", llvm::toString(std::move(error)));
  passes.run(module, modules);
  verify_module(module, "after optimisation");
}

std::unique_ptr<llvm::MemoryBuffer> object_code(llvm::Module& module,
                                                llvm::TargetMachine& machine) {
  return std::make_unique<llvm::SmallVectorMemoryBuffer>(
      generate(module, machine, llvm::CodeGenFileType::ObjectFile), module.getName(), false);
}

std::string assembly_text(llvm::Module& module, llvm::TargetMachine& machine) {
  const llvm::SmallVector<char, 0> text =
      generate(module, machine, llvm::CodeGenFileType::AssemblyFile);
  return {text.begin(), text.end()};
}

std::string ir_text(const llvm::Module& module) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  module.print(stream, nullptr);
  return text;
}

}  // namespace weir
