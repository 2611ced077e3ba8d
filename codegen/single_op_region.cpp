#include "codegen/single_op_region.h"

#include <algorithm>

#include "ir/print.h"
#include "support/error.h"

namespace weir {

SingleOpRegion single_op_region(const Graph& region, std::initializer_list<Op> ops) {
  const std::vector<int32_t>& inputs = region.inputs();
  const bool is_single = region.nodes().size() == inputs.size() + 1;
  WEIR_CHECK(is_single && std::find(ops.begin(), ops.end(), region.nodes().back().op) != ops.end(),
             "not a region of one such op:\n{}", print_graph(region));
  SingleOpRegion single;
  single.node = &region.nodes().back();
  for (weir::Value operand : single.node->inputs) {
    auto found = std::find(inputs.begin(), inputs.end(), operand.node);
    WEIR_CHECK(found != inputs.end(), "operand {} is no input", operand.node);
    single.operands.push_back(static_cast<int>(found - inputs.begin()));
  }
  single.results.assign(single.node->types.size(), -1);
  int buffer = static_cast<int>(inputs.size());
  for (const Output& output : region.outputs()) {
    int& result = single.results[output.value.result];
    WEIR_CHECK(!region.is_input(output.value) && result < 0,
               "an output is an input or given twice:\n{}", print_graph(region));
    result = buffer++;
  }
  single.workspace = buffer;
  return single;
}

}  // namespace weir
