#include "passes/compose/model_program.h"

#include "support/error.h"

namespace weir {

std::vector<GraphPtr> BatchPrograms::in_order() const {
  if (step) return {step};
  return {prepare, micro, finish};
}

void ModelProgram::input(const ProgramState& input, bool state) {
  inputs_[input.name] = editor_.input(input.name, input.type, state);
}

void ModelProgram::model_inputs() {
  for (int32_t id : model_.inputs())
    input({model_.input_name(id), model_.node(id).types[0]},
          model_.node(id).attrs.get_bool("state"));
}

void ModelProgram::model_nodes(const std::function<void(int32_t)>& after) {
  for (int32_t id = 0; id < model_.size(); ++id) {
    const Node& node = model_.node(id);
    std::vector<Value> operands;
    for (Value operand : node.inputs) operands.push_back((*this)[operand]);
    WEIR_CHECK(node.op != Op::kernel, "a kernel before fusion");
    if (node.op == Op::input)
      map_.push_back({at(model_.input_name(id))});
    else
      map_.push_back(editor_.add_like(model_, id, std::move(operands)));
    if (after) after(id);
  }
  for (const auto& [name, value] : model_.names()) editor_.name((*this)[value], name);
}

}  // namespace weir
