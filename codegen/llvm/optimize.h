#pragma once
// From the IR that emitters write to machine code: verification, the optimisation pipeline, object
// code and assembly for a target. Knows LLVM; used by jit.cpp.
#include <memory>
#include <string>

#include "codegen/llvm/llvm_backend.h"
#include "support/target.h"

namespace weir {

/// A machine that generates code for `target`: no fast-math, no contraction of a*b+c.
std::unique_ptr<llvm::TargetMachine> make_target_machine(const Target& target);

/// Internal error, with LLVM's report and the module's text, when the module breaks LLVM's rules.
void verify_module(const llvm::Module& module, const char* when);

/// Simplifies the module's functions, verifying before and after. The pipeline vectorises nothing,
/// unrolls nothing and reorders no floating-point operation.
void optimize(llvm::Module& module, llvm::TargetMachine& machine);

/// Relocatable ELF of the module.
std::unique_ptr<llvm::MemoryBuffer> object_code(llvm::Module& module, llvm::TargetMachine& machine);
std::string assembly_text(llvm::Module& module, llvm::TargetMachine& machine);
std::string ir_text(const llvm::Module& module);

}  // namespace weir
