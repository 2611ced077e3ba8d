#include "testing/random_graph.h"

#include <fmt/format.h>
#include <rapidcheck.h>
#include <rapidcheck/detail/TestListenerAdapter.h>

#include <cstdlib>
#include <sstream>

#include "interpret/interpret.h"
#include "ir/print.h"
#include "testing/graph_generator.h"

namespace weir::test {

GraphPtr random_graph(uint64_t seed, int nodes, const GraphOptions& options) {
  GraphGenerator generator(seed, options);
  for (int i = 0; i < nodes; ++i) generator.grow();
  return generator.finish();
}

void check_random_graphs(
    const std::function<std::string(const GraphPtr& graph, const Tensors& inputs)>& property,
    const PropertyOptions& options) {
  auto one = [&] {
    auto seed = *rc::gen::noShrink(
        rc::gen::resize(rc::kNominalSize, rc::gen::inRange<uint64_t>(0, uint64_t{1} << 40)));
    int nodes = *rc::gen::resize(rc::kNominalSize, rc::gen::inRange<int>(1, options.nodes + 1));
    GraphPtr graph = random_graph(seed, nodes, options.graph);
    std::string problem;
    try {
      problem = property(graph, random_inputs(*graph, seed + 1));
    } catch (const std::exception& error) {
      problem = error.what();
    }
    if (!problem.empty())
      RC_FAIL(fmt::format("{}\nrandom_graph(seed {}, nodes {}):\n{}", problem, seed, nodes,
                          print_graph(*graph)));
  };
  rc::detail::TestParams params;
  if (std::getenv("RC_PARAMS"))
    params = rc::detail::configuration().testParams;
  else
    params.maxSuccess = options.graphs;
  rc::detail::TestListenerAdapter silent;  // the default one announces a seed that is not used
  rc::detail::TestResult result =
      rc::detail::checkTestable(one, rc::detail::TestMetadata(), params, silent,
                                std::unordered_map<std::string, rc::detail::Reproduce>());
  if (result.is<rc::detail::SuccessResult>()) return;
  std::ostringstream text;
  rc::detail::printResultMessage(result, text);
  ADD_FAILURE() << text.str();
}

namespace {

// What a pass must leave alone, and what its graph must still compute.
std::string compare_meaning(const GraphPtr& before, const GraphPtr& after, const Tensors& inputs,
                            Tolerance tolerance) {
  std::vector<std::string> names;
  for (const auto& [name, value] : after->names()) names.push_back(name);
  for (const std::string& name : names)
    if (!before->find(name)) return "the pass made up the name " + name;
  Interpretation expected = interpret_all(*before, inputs, names);
  Interpretation actual = interpret_all(*after, inputs, names);
  return difference(actual.outputs, expected.outputs, tolerance) +
         difference(actual.values, expected.values, tolerance);
}

}  // namespace

void check_pass_preserves_meaning(const std::function<GraphPtr(const GraphPtr&)>& pass,
                                  const PropertyOptions& options) {
  check_random_graphs(
      [&](const GraphPtr& graph, const Tensors& inputs) -> std::string {
        GraphPtr after = pass(graph);
        std::string problem = compare_meaning(graph, after, inputs, options.tolerance);
        if (problem.empty() && options.idempotent && !(*pass(after) == *after))
          problem = "the pass is not idempotent; run again it gives\n" + print_graph(*pass(after));
        if (problem.empty()) return "";
        return problem + "after the pass:\n" + print_graph(*after);
      },
      options);
}

}  // namespace weir::test
