#include "testing/run_op.h"

#include <fmt/format.h>

#include "interpret/interpret.h"
#include "ir/edit.h"

namespace weir::test {

GraphPtr op_graph(Op op, const std::vector<Type>& types, const Attrs& attrs) {
  GraphEditor editor(op_name(op));
  std::vector<Value> inputs;
  for (size_t i = 0; i < types.size(); ++i)
    inputs.push_back(editor.input(fmt::format("in{}", i), types[i]));
  std::vector<Value> results = editor.add_node(op, inputs, attrs);
  for (size_t i = 0; i < results.size(); ++i) editor.output(fmt::format("out{}", i), results[i]);
  return editor.finish();
}

std::vector<HostTensor> run_op(Op op, const std::vector<HostTensor>& operands, const Attrs& attrs) {
  std::vector<Type> types;
  Tensors inputs;
  for (const HostTensor& operand : operands) {
    inputs[fmt::format("in{}", types.size())] = operand;
    types.push_back(operand.type);
  }
  Tensors outputs = interpret(*op_graph(op, types, attrs), inputs);
  std::vector<HostTensor> results;
  for (size_t i = 0; i < outputs.size(); ++i)
    results.push_back(outputs.at(fmt::format("out{}", i)));
  return results;
}

}  // namespace weir::test
