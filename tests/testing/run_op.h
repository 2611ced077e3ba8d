#pragma once
// One op on given values, by the interpreter.
#include "interpret/host_tensor.h"
#include "ir/graph.h"

namespace weir::test {

/// A graph with inputs in0, in1 ... of the given types and outputs out0, out1 ... of one op on
/// them.
GraphPtr op_graph(Op op, const std::vector<Type>& types, const Attrs& attrs = {});

/// The results of the op on these operands.
std::vector<HostTensor> run_op(Op op, const std::vector<HostTensor>& operands,
                               const Attrs& attrs = {});

}  // namespace weir::test
