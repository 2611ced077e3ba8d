#pragma once
// Random valid graphs for property tests, and the properties that every pass has.
//
//   TEST(Simplify, KeepsTheMeaning) { check_pass_preserves_meaning(simplify); }
#include <functional>

#include "interpret/host_tensor.h"
#include "ir/graph.h"
#include "testing/expect_close.h"

namespace weir::test {

struct GraphOptions {
  bool composites = true;
  /// Only what autodiff differentiates and finite differences can follow: no comparisons, kinks,
  /// stopped gradients or ops without a gradient.
  bool differentiable = false;
  /// Adds a scalar f32 output `loss` that depends on every float value.
  bool loss = false;
};

/// A graph at stage built of about `nodes` random ops on small awkward shapes, over float inputs,
/// ids and one state input. Values nobody uses are outputs; some values have hook names. The graph
/// of fewer nodes and the same seed is a part of it, so that a failure shrinks by lowering `nodes`.
/// Values stay small, and only exact ones are compared, so that rounding cannot change the outcome.
GraphPtr random_graph(uint64_t seed, int nodes, const GraphOptions& options = {});

struct PropertyOptions {
  GraphOptions graph = {};
  bool idempotent = true;  ///< demanded by check_pass_preserves_meaning
  int graphs = 100;        ///< how many are tried
  int nodes = 12;          ///< at most
  Tolerance tolerance = {.relative = 1e-9, .absolute = 1e-9};
};

/// Runs `property` on random graphs with random inputs; it returns "" or what is wrong. The first
/// failure is shrunk and printed with its seed, node count and text. The graphs are the same in
/// every run; RC_PARAMS="seed=N max_success=M" tries others.
void check_random_graphs(
    const std::function<std::string(const GraphPtr& graph, const Tensors& inputs)>& property,
    const PropertyOptions& options = {});

/// Fails the test unless the pass keeps outputs and the named values that it carries over, leaves
/// inputs and output names alone, makes up no name, and changes nothing when it is run again.
void check_pass_preserves_meaning(const std::function<GraphPtr(const GraphPtr&)>& pass,
                                  const PropertyOptions& options = {});

}  // namespace weir::test
