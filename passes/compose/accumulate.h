#pragma once
// The sum over the parts of a batch (micro-batches), as one operation: how a state takes what each
// part gives. Whatever joins parts in another way - a fixed tree over several machines - replaces
// `accumulate` and nothing else.
#include <vector>

#include "passes/compose/model_program.h"

namespace weir {

/// A state that adds up (or joins otherwise) what the parts of a batch give.
struct Accumulator {
  ProgramState state;
  double initial = 0;
};

/// What a state holds after one more part: `before` joined with `part` by `join` (add, maximum or
/// minimum), in the order of the parts. A matrix product is added in its own chain of
/// multiplications and additions.
Value accumulate(ModelProgram& p, Op join, Value before, Value part);

/// The program `prepare` of `model`: every accumulator takes its initial value.
GraphPtr prepare_program(const Graph& model, const std::vector<Accumulator>& accumulators);

}  // namespace weir
