#include "codegen/llvm/vector_loop.h"

namespace weir {

Emitter::Values for_vectors(Emitter& e, llvm::Value* begin, llvm::Value* end, int lanes,
                            const Emitter::Values& initial,
                            const std::function<Emitter::Values(llvm::Value*, llvm::Value*,
                                                                const Emitter::Values&)>& body) {
  llvm::Value* whole = e.add(begin, e.mul(e.div(e.sub(end, begin), lanes), lanes));
  Emitter::Values carried = e.for_loop(
      begin, whole, lanes, initial,
      [&](llvm::Value* i, const Emitter::Values& values) { return body(i, nullptr, values); });
  if (lanes == 1) return carried;
  llvm::Value* rest = e.sub(end, whole);
  const auto tail = [&] { return body(whole, e.mask_below(rest, lanes), carried); };
  if (const auto* known = llvm::dyn_cast<llvm::ConstantInt>(rest))
    return known->isZero() ? carried : tail();
  return e.if_else(e.ir().CreateICmpSGT(rest, e.index(0)), tail, [&] { return carried; });
}

void for_vectors(Emitter& e, llvm::Value* begin, llvm::Value* end, int lanes,
                 const std::function<void(llvm::Value*, llvm::Value*)>& body) {
  for_vectors(e, begin, end, lanes, Emitter::Values{},
              [&](llvm::Value* i, llvm::Value* mask, const Emitter::Values&) {
                body(i, mask);
                return Emitter::Values{};
              });
}

}  // namespace weir
