#include "codegen/anchor_region.h"

#include <algorithm>

#include "ir/print.h"
#include "support/error.h"

namespace weir {

AnchorRegion anchor_region(const Graph& region, std::initializer_list<Op> ops) {
  const std::vector<int32_t>& inputs = region.inputs();
  const bool single = region.nodes().size() == inputs.size() + 1;
  WEIR_CHECK(single && std::find(ops.begin(), ops.end(), region.nodes().back().op) != ops.end(),
             "not a region of one such op:\n{}", print_graph(region));
  AnchorRegion anchor;
  anchor.node = &region.nodes().back();
  for (weir::Value operand : anchor.node->inputs) {
    auto found = std::find(inputs.begin(), inputs.end(), operand.node);
    WEIR_CHECK(found != inputs.end(), "operand {} is no input", operand.node);
    anchor.operands.push_back(static_cast<int>(found - inputs.begin()));
  }
  anchor.results.assign(anchor.node->types.size(), -1);
  int buffer = static_cast<int>(inputs.size());
  for (const Output& output : region.outputs()) {
    int& result = anchor.results[output.value.result];
    WEIR_CHECK(!region.is_input(output.value) && result < 0,
               "an output is an input or given twice:\n{}", print_graph(region));
    result = buffer++;
  }
  anchor.workspace = buffer;
  return anchor;
}

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
