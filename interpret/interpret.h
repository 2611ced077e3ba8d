#pragma once
// The meaning of a program: every op run by its definition in ops.def, in f64. Compiled code,
// passes and decompositions are tested against this; it knows nothing of them.
//
// f32 and f64 are both held in full f64 precision, so that the result is that of the real-number
// formula; bf16 and f16 are rounded after every node, integers wrap at their width. Composites run
// by their own definition, kernels by running their region.
#include "interpret/host_tensor.h"
#include "ir/graph.h"

namespace weir {

struct Interpretation {
  Tensors outputs;  ///< by the name of the output; state outputs are among them
  Tensors probes;   ///< by the id of the probe, from kernels too
  Tensors values;   ///< the named values asked for, by that name
};

/// Runs `graph`; `values` names further values to return (hook names). A value is freed after its
/// last use. User errors: inputs missing, unknown or of another type (all listed at once), an
/// unknown name, an id outside its vocabulary, an integer divided by zero.
Interpretation interpret_all(const Graph& graph, const Tensors& inputs,
                             const std::vector<std::string>& values = {});

/// The outputs alone.
Tensors interpret(const Graph& graph, const Tensors& inputs);

}  // namespace weir
