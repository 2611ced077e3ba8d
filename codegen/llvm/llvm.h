#pragma once
// LLVM's IR, for files of codegen/ that build it. This header and llvm_backend.h are the only ones
// that include LLVM; no header that the rest of the house sees includes them.
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/IntrinsicsX86.h>
#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Module.h>
