#include "passes/compose/accumulate.h"

namespace weir {

Value accumulate(ModelProgram& p, Op join, Value before, Value part) {
  const Node node = p.editor().graph().node(part);
  if (join == Op::add && node.op == Op::matmul && node.inputs.size() == 2)
    return p.editor().add(Op::matmul, {node.inputs[0], node.inputs[1], before}, node.attrs,
                          node.where);
  return p.editor().add(join, {before, part});
}

GraphPtr prepare_program(const Graph& model, const std::vector<Accumulator>& accumulators) {
  ModelProgram p(model.name() + ".prepare", model);
  for (const auto& [state, initial] : accumulators) p.state(state);
  for (const auto& [state, initial] : accumulators)
    p.editor().output(state.name, p.editor().constant(initial, state.type));
  return p.finish();
}

}  // namespace weir
