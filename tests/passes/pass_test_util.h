#pragma once
// What the tests of passes share: random inputs of a graph, and the check that a pass left the
// meaning of a graph as it was.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

#include "codegen/interpret.h"
#include "ir/builder.h"
#include "ir/print.h"
#include "support/error.h"

namespace weir {

/// Values in [low, high) by input; integers are in [-1, 3), so that targets may be ignored, unless
/// the input is named ids or tokens.
inline Tensors random_inputs(const Graph& graph, double low = -2, double high = 2,
                             uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  Tensors inputs;
  for (int32_t id : graph.inputs()) {
    const Type& type = graph.node(id).types[0];
    HostTensor tensor = zeros(type);
    std::string name = graph.input_name(id);
    int64_t first = name == "ids" || name == "tokens" ? 0 : -1;
    for (double& x : tensor.data)
      x = is_float(type.dtype)
              ? std::uniform_real_distribution<double>(low, high)(random)
              : static_cast<double>(std::uniform_int_distribution<int64_t>(first, 2)(random));
    if (type.dtype == DType::boolean)
      for (double& x : tensor.data) x = x > 0;
    inputs[name] = tensor;
  }
  return inputs;
}

inline void expect_equal_tensors(const Tensors& got, const Tensors& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, expected] : want) {
    ASSERT_TRUE(got.contains(name)) << name;
    const HostTensor& actual = got.at(name);
    ASSERT_EQ(actual.type, expected.type) << name;
    for (size_t i = 0; i < expected.data.size(); ++i) {
      double a = actual.data[i], b = expected.data[i];
      if (std::isnan(a) && std::isnan(b)) continue;
      if (a == b) continue;
      ASSERT_NEAR(a, b, tolerance * std::max(1.0, std::abs(b))) << name << " element " << i;
    }
  }
}

/// Both graphs give the same outputs on random inputs.
inline void expect_same_results(const Graph& before, const Graph& after, double tolerance = 1e-12,
                                double low = -2, double high = 2) {
  Tensors inputs = random_inputs(before, low, high);
  expect_equal_tensors(interpret(after, inputs), interpret(before, inputs), tolerance);
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
