#include "testing/finite_difference.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/edit.h"
#include "support/error.h"

namespace weir::test {
namespace {

// The graph with the loss as its only output, so that nothing else is computed.
GraphPtr loss_alone(const Graph& graph, const std::string& loss) {
  auto value = graph.find_output(loss);
  WEIR_CHECK(value && graph.type(*value).elements() == 1, "{} is no scalar output", loss);
  Rewriter rewriter(graph);
  for (int32_t id = 0; id < graph.size(); ++id)
    if (graph.node(id).op != Op::input) rewriter.copy(id);
  rewriter.output(loss, rewriter[*value]);
  return rewriter.finish();
}

// The derivative in one element by the five-point rule.
double slope(const Graph& graph, Tensors& inputs, double& element, const GradientCheck& check) {
  double centre = element;
  auto loss_at = [&](double offset) {
    element = centre + offset;
    return interpret(graph, inputs).at(check.loss).data[0];
  };
  double near = loss_at(check.step) - loss_at(-check.step);
  double far = loss_at(2 * check.step) - loss_at(-2 * check.step);
  element = centre;
  return (8 * near - far) / (12 * check.step);
}

}  // namespace

::testing::AssertionResult gradients_match(const Graph& graph, const Tensors& inputs,
                                           const std::map<std::string, std::string>& gradients,
                                           const GradientCheck& check) {
  Tensors outputs = interpret(graph, inputs);
  GraphPtr loss = loss_alone(graph, check.loss);
  Tensors moved = inputs;
  std::string text;
  for (const auto& [input, output] : gradients) {
    WEIR_CHECK(inputs.count(input), "no input {}", input);
    WEIR_CHECK(outputs.count(output), "no output {}", output);
    const HostTensor& gradient = outputs.at(output);
    HostTensor& x = moved.at(input);
    if (gradient.shape() != x.shape()) {
      text += fmt::format("{} is {}, but {} is {}\n", output, to_string(gradient.type), input,
                          to_string(x.type));
      continue;
    }
    auto count = static_cast<int64_t>(x.data.size());
    int64_t tried = std::min(count, check.elements);
    HostTensor actual{{DType::f64, {tried}}, {}}, expected = actual;
    for (int64_t i = 0; i < tried; ++i) {
      int64_t element = i * count / tried;
      actual.data.push_back(gradient.data[element]);
      expected.data.push_back(slope(*loss, moved, x.data[element], check));
    }
    if (std::string one = difference(actual, expected, check.tolerance); !one.empty())
      text += fmt::format("{} against finite differences: {}\n", output, one);
    if (!check.may_be_zero &&
        std::all_of(gradient.data.begin(), gradient.data.end(), [](double g) { return g == 0; }))
      text += fmt::format("{} is zero in every element\n", output);
  }
  if (text.empty()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << text;
}

}  // namespace weir::test
