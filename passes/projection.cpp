#include "passes/projection.h"

#include <fmt/format.h>

#include <algorithm>

namespace weir {

Projection find_projection(const Graph& graph, Value value, const std::vector<Op>& passed) {
  while (true) {
    const Node& node = graph.node(value);
    const bool passes = std::find(passed.begin(), passed.end(), node.op) != passed.end();
    switch (info(node.op).op_class) {
      case OpClass::Contraction:
        if (node.op == Op::matmul) {
          const Shape& rows = graph.type(node.inputs[0]).shape;
          Projection found{rows[rows.size() - (node.attrs.get_bool("transpose_a") ? 2 : 1)], "",
                           node.inputs[0]};
          Value weight = node.inputs[1];
          while (graph.node(weight).op == Op::convert || graph.node(weight).op == Op::transpose)
            weight = graph.node(weight).inputs[0];
          if (graph.is_input(weight)) found.weight = graph.input_name(weight.node);
          return found;
        }
        return {};
      case OpClass::Elementwise:
        if (node.op != Op::identity && node.op != Op::convert && node.op != Op::add && !passes)
          return {};
        break;
      case OpClass::Movement:
        break;
      case OpClass::Composite:
        if (!passes) return {};
        break;
      case OpClass::Source:
      case OpClass::Reduction:
      case OpClass::Effect:
      case OpClass::Kernel:
        return {};
    }
    value = node.inputs[0];
  }
}

std::string state_prefix(const Projection& of_value, int64_t layer) {
  constexpr std::string_view suffix = "v_proj.weight";
  if (of_value.weight.ends_with(suffix))
    return of_value.weight.substr(0, of_value.weight.size() - suffix.size());
  return fmt::format("attention.{}.", layer);
}

}  // namespace weir
