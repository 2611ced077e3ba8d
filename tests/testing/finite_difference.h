#pragma once
// Gradients against finite differences of the interpreter, in f64.
#include "interpret/interpret.h"
#include "testing/expect_close.h"

namespace weir::test {

struct GradientCheck {
  std::string loss = "loss";  ///< the scalar output to be differentiated
  double step = 1e-4;         ///< of the five-point central difference, whose error is step^4
  Tolerance tolerance = {.relative = 1e-7, .absolute = 1e-9};
  int64_t elements = 48;     ///< at most so many elements of an input are tried, spread evenly
  bool may_be_zero = false;  ///< whether the gradient of an input may vanish everywhere
};

/// For every input named in `gradients` (input name to output name of `graph`), compares that
/// output with the finite difference of the loss in that input; every other input stays. A
/// gradient that is zero in every element fails, since then nothing was tested.
::testing::AssertionResult gradients_match(const Graph& graph, const Tensors& inputs,
                                           const std::map<std::string, std::string>& gradients,
                                           const GradientCheck& check = {});

}  // namespace weir::test
