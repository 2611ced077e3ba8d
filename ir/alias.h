#pragma once
// Which values share memory: a reshape is another shape of its operand's bytes.
#include "ir/graph.h"

namespace weir {

/// The value behind the reshapes of `value`, which is where its bytes lie.
inline Value strip_reshapes(const Graph& graph, Value value) {
  while (graph.node(value).op == Op::reshape) value = graph.node(value).inputs[0];
  return value;
}

/// The value that `value` is another name of, behind `identity` nodes.
inline Value through_identity(const Graph& graph, Value value) {
  while (graph.node(value).op == Op::identity) value = graph.node(value).inputs[0];
  return value;
}

}  // namespace weir
