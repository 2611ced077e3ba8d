#pragma once
// Loops over the vectors of a range, whose last one may be partial.
#include "codegen/llvm/emitter.h"

namespace weir {

/// Calls `body(i, mask, carried)` for i = begin, begin + lanes ... below end; the mask is nullptr
/// but for the last, ragged vector. Returns what the last call gave.
Emitter::Values for_vectors(
    Emitter& e, llvm::Value* begin, llvm::Value* end, int lanes, const Emitter::Values& initial,
    const std::function<Emitter::Values(llvm::Value*, llvm::Value*, const Emitter::Values&)>& body);
/// The same with nothing carried.
void for_vectors(Emitter& e, llvm::Value* begin, llvm::Value* end, int lanes,
                 const std::function<void(llvm::Value*, llvm::Value*)>& body);

}  // namespace weir
