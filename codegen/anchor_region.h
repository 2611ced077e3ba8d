#pragma once
// The region of a kernel that runs one op alone (an embedding, a loss head): where the op's
// operands and results lie among the kernel's buffers.
#include <vector>

#include "codegen/llvm/emitter.h"
#include "ir/graph.h"

namespace weir {

struct AnchorRegion {
  const Node* node = nullptr;  ///< belongs to the region
  std::vector<int> operands;   ///< the buffer of each operand
  std::vector<int> results;    ///< the buffer of each result; -1: not wanted
  int workspace = 0;           ///< the buffer behind inputs and outputs
};

/// Internal error unless the region is one node of one of `ops` on inputs.
AnchorRegion anchor_region(const Graph& region, std::initializer_list<Op> ops);

/// Calls `body(i, mask, carried)` for i = begin, begin + lanes ... below end; the mask is nullptr
/// but for the last, ragged vector. Returns what the last call gave.
Emitter::Values for_vectors(
    Emitter& e, llvm::Value* begin, llvm::Value* end, int lanes, const Emitter::Values& initial,
    const std::function<Emitter::Values(llvm::Value*, llvm::Value*, const Emitter::Values&)>& body);
/// The same with nothing carried.
void for_vectors(Emitter& e, llvm::Value* begin, llvm::Value* end, int lanes,
                 const std::function<void(llvm::Value*, llvm::Value*)>& body);

}  // namespace weir
