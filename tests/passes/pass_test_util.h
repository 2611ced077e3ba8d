#pragma once
// What the tests of passes share: the check that a pass left the meaning of a graph as it was, and
// short ways to look at a graph.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "interpret/interpret.h"
#include "ir/builder.h"
#include "ir/print.h"
#include "support/error.h"
#include "testing/expect_close.h"
#include "testing/random_tensor.h"

namespace weir {

/// Both graphs give the same outputs on random inputs.
inline void expect_same_results(const Graph& before, const Graph& after, double tolerance = 1e-12,
                                double low = -2, double high = 2) {
  Tensors inputs = test::random_inputs(before, 1, low, high);
  EXPECT_TRUE(test::close(interpret(after, inputs), interpret(before, inputs),
                          {.relative = tolerance, .absolute = tolerance}));
}

/// The lines of a graph without its head and without hook names.
inline std::string body_of(const Graph& graph) {
  std::string text = print_graph(graph, {.names = false});
  return text.substr(text.find('\n') + 1);
}

inline int64_t count_ops(const Graph& graph, Op op) {
  int64_t count = 0;
  for (const Node& node : graph.nodes()) count += node.op == op;
  return count;
}

template <typename F>
std::string user_error_of(const F& f) {
  try {
    f();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no user error";
}

}  // namespace weir
