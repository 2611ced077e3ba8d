#pragma once
// From a graph to results in a few lines, for programs without a training loop of their own:
// compile, run on tensors in the host's memory, read back. A program that is run many times writes
// its inputs through Session::data instead, without a copy in f64.
#include "engine/executable.h"
#include "interpret/interpret.h"
#include "passes/pass.h"

namespace weir {

/// Runs the passes up to stage planned and compiles the result for `options.target`: one program,
/// or those that `options.compose` makes of the graph, in running order. User errors:
/// no graph, one that returns nothing, and what the passes say.
Executables compile(const GraphPtr& graph, const CompileOptions& options = {},
                    CompileSettings settings = {});

/// Writes an input, converted to the type that the program stores. User errors: an unknown name,
/// another type than the input's, data of another size than its type says.
void write(Session& session, const std::string& input, const HostTensor& value);
/// Reads an input back; after a run, a state has its new value.
HostTensor read(Session& session, const std::string& input);

/// Writes the inputs, runs one program and returns all of its outputs and probes, as interpret_all
/// does; inputs that are not given keep what they hold.
Interpretation run(Session& session, const Tensors& inputs = {}, size_t program = 0);

/// Independent normal numbers of mean 0, rounded to floats: draws of the counter-based generator
/// (runtime/random), the same on every machine.
HostTensor random_normal(const Type& type, double deviation, uint64_t seed, uint64_t stream = 0);

/// The largest |a - b| over the largest |b|; infinity if either holds a NaN or the shapes differ.
double relative_difference(const HostTensor& a, const HostTensor& b);

}  // namespace weir
