#include "passes/fuse.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "interpret/interpret.h"
#include "ir/builder.h"
#include "ir/print.h"
#include "ir/schedule.h"
#include "models/llama.h"
#include "passes/pipeline.h"
#include "runtime/random.h"
#include "testing/small_model.h"

namespace weir {
namespace {

GraphPtr run_to(GraphPtr graph, Stage stage) {
  CompileOptions options;
  options.stop = stage;
  if (graph->stage() == Stage::built) graph = with_stage(graph, Stage::instrumented);
  return run_pipeline(graph, options, pipeline(), {}).graph;
}

Tensors random_inputs(const Graph& graph) {
  Tensors inputs;
  uint64_t stream = 0;
  for (int32_t id : graph.inputs()) {
    Random random(7, stream++);
    HostTensor tensor{graph.node(id).types[0], {}};
    for (int64_t i = 0; i < tensor.type.elements(); ++i)
      tensor.data.push_back(is_float(tensor.type.dtype) ? random.normal()
                                                        : static_cast<double>(random.below(11)));
    inputs[graph.input_name(id)] = tensor;
  }
  return inputs;
}

std::vector<std::string> schedules(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes())
    if (node.op == Op::kernel) names.push_back(node.attrs.get_string("schedule"));
  return names;
}

void expect_same_results(const GraphPtr& before, const GraphPtr& after) {
  Tensors inputs = random_inputs(*before);
  Interpretation a = interpret_all(*before, inputs), b = interpret_all(*after, inputs);
  ASSERT_EQ(a.outputs.size(), b.outputs.size());
  for (const auto& [name, tensor] : a.outputs)
    EXPECT_EQ(tensor.data, b.outputs.at(name).data) << name;
  for (const auto& [name, tensor] : a.probes)
    EXPECT_EQ(tensor.data, b.probes.at(name).data) << name;
}

TEST(Fuse, RmsNormIsOneRowKernel) {
  Builder b("g");
  Tensor x = b.input("x", f32({2, 3, 8})), gamma = b.input("gamma", f32({8}));
  b.output("y", rms_norm(x, gamma, 1e-5));
  GraphPtr lowered = run_to(b.finish(), Stage::lowered), fused = fuse(lowered);
  EXPECT_EQ(schedules(*fused), std::vector<std::string>{"row"});
  expect_same_results(lowered, fused);
}

TEST(Fuse, ResidualAddIsTheEpilogueOfItsProduct) {
  Builder b("g");
  Tensor x = b.input("x", f32({2, 3, 8})), w = b.input("w", f32({8, 8}));
  b.output("y", relu(x + linear(x, w)) * 2.0);
  GraphPtr lowered = run_to(b.finish(), Stage::lowered), fused = fuse(lowered);
  EXPECT_EQ(schedules(*fused), std::vector<std::string>{"matmul"});
  expect_same_results(lowered, fused);
}

// The node of a fused graph that stores the output.
const Node& kernel_of(const Graph& fused, const std::string& output) {
  return fused.node(*fused.find_output(output));
}

TEST(Fuse, AProductThatOthersReadHasAnEpilogueToo) {
  Builder b("g");
  Tensor x = b.input("x", f32({2, 3, 8})), gate = b.input("gate", f32({8, 8}));
  Tensor up = b.input("up", f32({8, 8})), down = b.input("down", f32({8, 8}));
  Tensor left = linear(x, gate), right = linear(x, up);
  b.output("y", linear(silu(left) * right, down));
  b.output("z", linear(left, down) + linear(right, down));
  GraphPtr lowered = run_to(b.finish(), Stage::lowered), fused = fuse(lowered);
  const std::vector<std::string> kernels = schedules(*fused);
  EXPECT_EQ(std::count(kernels.begin(), kernels.end(), "matmul"), 5);
  EXPECT_EQ(kernels.size(), 5u);
  expect_same_results(lowered, fused);
}

// All of what follows a product elementwise is done in its epilogue, the parts that share nothing
// else included.
TEST(Fuse, SeveralConsumersOfAProductAreOneEpilogue) {
  Builder b("g");
  Tensor x = b.input("x", f32({4, 8})), w = b.input("w", f32({8, 8}));
  Tensor u = b.input("u", f32({4, 8})), v = b.input("v", f32({4, 8}));
  Tensor product = linear(x, w);
  b.output("a", product * u);
  b.output("b", product * tanh(v));
  GraphPtr lowered = run_to(b.finish(), Stage::lowered), fused = fuse(lowered);
  EXPECT_EQ(kernel_of(*fused, "a").attrs.get_string("schedule"), "matmul");
  EXPECT_EQ(&kernel_of(*fused, "a"), &kernel_of(*fused, "b"));
  expect_same_results(lowered, fused);
}

TEST(Fuse, WhatReadsAProductInAnotherShapeIsNoEpilogue) {
  Builder b("g");
  Tensor x = b.input("x", f32({1, 8})), w = b.input("w", f32({8, 8}));
  Tensor product = linear(x, w);
  Tensor there = exp(product);
  b.output("y", reshape(there, {4, 2}) + reshape(product, {4, 2}));
  b.output("z", there * reshape(product, {8}));
  GraphPtr lowered = run_to(b.finish(), Stage::lowered), fused = fuse(lowered);
  int products = 0;
  for (const Node& node : fused->nodes()) {
    if (node.op != Op::kernel || schedule_of(node) != Schedule::matmul) continue;
    ++products;
    for (const Node& inner : node.region->nodes())
      EXPECT_NE(info(inner.op).op_class, OpClass::Elementwise) << print_graph(*fused);
  }
  EXPECT_EQ(products, 1);
  expect_same_results(lowered, fused);
}

// The sigmoid of a value that a later kernel loads anyway is cheaper to have than to keep, as
// between the forward and the backward pass of SwiGLU.
TEST(Fuse, AModeratelyExpensiveValueOfALoadedOneIsComputedAgain) {
  Builder b("g");
  Tensor w = b.input("w", f32({8, 8})), gate = b.input("gate", f32({4, 8}));
  Tensor open = sigmoid(gate);
  Tensor early = linear(open * 3.0, w);
  b.output("late", linear(early, w) * gate * open);
  GraphPtr lowered = run_to(b.finish(), Stage::lowered), fused = fuse(lowered);
  EXPECT_EQ(schedules(*fused), (std::vector<std::string>{"elementwise", "matmul", "matmul"}));
  int sigmoids = 0;
  for (const Node& node : fused->nodes()) {
    EXPECT_LE(node.types.size(), 1u);  // the sigmoid itself is not stored
    if (node.region)
      for (const Node& inner : node.region->nodes()) sigmoids += inner.op == Op::sigmoid;
  }
  EXPECT_EQ(sigmoids, 2);
  expect_same_results(lowered, fused);
}

// What is stored in any case is as good to compute from as what it was computed from: the
// normalised value is computed again from the sum that the next block needs.
TEST(Fuse, ValuesAreComputedAgainFromWhatIsStoredAnyway) {
  Builder b("g");
  Tensor x = b.input("x", f32({4, 8})), y = b.input("y", f32({4, 8}));
  Tensor w = b.input("w", f32({8, 8}));
  Tensor sum = x + y;
  Tensor scale = rsqrt(reduce_mean(sum * sum, {1}));
  Tensor normalised = sum * scale;
  b.output("next", linear(sum, w));
  b.output("late", reduce_sum(exp(linear(exp(sum), w)) * normalised, {0}));
  GraphPtr lowered = run_to(b.finish(), Stage::lowered), fused = fuse(lowered);
  int rows = 0;
  for (const Node& node : fused->nodes()) {
    if (node.op != Op::kernel || node.attrs.get_string("schedule") != "row") continue;
    ++rows;
    // The sum, its exponential and the scale, but not their product.
    EXPECT_EQ(node.types.size(), 3u) << print_graph(*fused);
  }
  EXPECT_EQ(rows, 1);
  expect_same_results(lowered, fused);
}

TEST(Fuse, RotaryEmbeddingIsOneKernelBesideItsTable) {
  Builder b("g");
  Tensor x = b.input("x", f32({2, 5, 3, 8}));
  b.output("y", rope(x, 10000));
  GraphPtr lowered = run_to(b.finish(), Stage::lowered), fused = fuse(lowered);
  std::vector<std::string> kernels = schedules(*fused);
  EXPECT_LE(kernels.size(), 3u);
  EXPECT_EQ(std::count(kernels.begin(), kernels.end(), "elementwise"),
            static_cast<ptrdiff_t>(kernels.size()));
  expect_same_results(lowered, fused);
}

TEST(Fuse, NeverClosesACycle) {
  // y needs exp(x) and, through a product, exp(x) again: joining both sides of the product would.
  Builder b("g");
  Tensor x = b.input("x", f32({8, 8})), w = b.input("w", f32({8, 8}));
  Tensor e = exp(x);
  b.output("y", e + matmul(e, w) * e);
  GraphPtr lowered = run_to(b.finish(), Stage::lowered), fused = fuse(lowered);
  EXPECT_EQ(schedules(*fused), (std::vector<std::string>{"elementwise", "matmul"}));
  // The first kernel has no part of what needs the product.
  for (const Node& inner : kernel_of(*fused, "y").region->nodes()) EXPECT_NE(inner.op, Op::exp);
  expect_same_results(lowered, fused);
}

// A kernel cannot load at other places what it computes: the weights of a norm that are the normed
// row itself are read from memory.
TEST(Fuse, AKernelDoesNotLoadItsOwnValuesInAnotherShape) {
  Builder b("g");
  Tensor x = b.input("x", f32({1, 1, 6})), s = b.input("s", f32({3, 2}));
  Tensor a = tanh(x);
  b.output("y", s - reshape(rms_norm(a, reshape(a, {6}), 1e-2), {3, 2}));
  Tensor e = exp(x);
  b.output("z", e * exp(reshape(e, {6})) + e);
  GraphPtr lowered = run_to(b.finish(), Stage::lowered), fused = fuse(lowered);
  expect_same_results(lowered, fused);
}

TEST(Fuse, GroupsStayWithinTheOperandsOfAKernel) {
  // As the norm of the gradients of a model of many layers: more scalars than a kernel may read.
  Builder b("g");
  std::vector<Tensor> gradients;
  for (int i = 0; i < 150; ++i) gradients.push_back(b.input(fmt::format("x{}", i), f32({3, 2})));
  Tensor total = reduce_sum(gradients[0] * gradients[0], {0, 1});
  for (size_t i = 1; i < gradients.size(); ++i)
    total = total + reduce_sum(gradients[i] * gradients[i], {0, 1});
  b.output("norm", sqrt(total));
  GraphPtr lowered = run_to(b.finish(), Stage::lowered), fused = run_to(lowered, Stage::fused);
  size_t most = 0;
  for (const Node& node : fused->nodes()) most = std::max(most, node.inputs.size());
  EXPECT_LE(most, static_cast<size_t>(FuseOptions().max_operands));
  expect_same_results(lowered, fused);
}

// The epilogue of the first product reads the second one, whose own epilogue would wait for the
// first, by way of a kernel all of whose nodes are older than the second product.
TEST(Fuse, ProductsDoNotWaitForEachOther) {
  Builder b("g");
  Tensor x = b.input("x", f32({4, 4})), w = b.input("w", f32({4, 4}));
  Tensor v = b.input("v", f32({2, 4})), u = b.input("u", f32({4, 8}));
  Tensor first = tanh(matmul(x, w)), total = reduce_sum(first, {0, 1});
  Tensor second = matmul(v, u);
  b.output("y", second * total);
  b.output("z", first + reshape(transpose(second, {1, 0}), {4, 4}));
  const GraphPtr lowered = run_to(b.finish(), Stage::lowered),
                 fused = run_to(lowered, Stage::fused);
  expect_same_results(lowered, fused);
}

TEST(Fuse, JoinsOfJoinsStayWithinTheOperandsOfAKernel) {
  Builder b("joins");
  std::vector<std::vector<Tensor>> rows(2);
  for (int i = 0; i < 128; ++i) rows[i / 64].push_back(b.input(fmt::format("x{}", i), f32({2})));
  b.output("y", concat({concat(rows[0], 0), concat(rows[1], 0)}, 0));
  const GraphPtr lowered = run_to(b.finish(), Stage::lowered),
                 fused = run_to(lowered, Stage::fused);
  for (const Node& node : fused->nodes())
    EXPECT_LE(node.inputs.size(), static_cast<size_t>(info(Op::kernel).inputs_max));
  expect_same_results(lowered, fused);
}

TEST(Fuse, ModelKeepsItsMeaningAndOnlyKernelsRemain) {
  Model model = build_llama(test::small_model(), 3, 5);
  GraphPtr lowered = run_to(model.graph, Stage::lowered), fused = run_to(lowered, Stage::fused);
  for (const Node& node : fused->nodes())
    EXPECT_TRUE(node.op == Op::kernel || node.op == Op::input || node.op == Op::reshape)
        << op_name(node.op);
  expect_same_results(lowered, fused);
}

TEST(Fuse, ProbesAddKernelsAndMoveNone) {
  Builder b("g");
  Tensor x = b.input("x", f32({2, 3, 8})), gamma = b.input("gamma", f32({8})),
         w = b.input("w", f32({8, 8}));
  Tensor n = rms_norm(x, gamma, 1e-5);
  b.output("y", linear(n, w));
  GraphPtr lowered = run_to(b.finish(), Stage::lowered);
  Rewriter rewriter(*lowered);
  for (int32_t id = 0; id < lowered->size(); ++id)
    if (lowered->node(id).op != Op::input) rewriter.copy(id);
  // The probed value is inside the row kernel: the reciprocal of the norm's scale.
  int32_t inner = -1;
  for (int32_t id = 0; id < lowered->size(); ++id)
    if (lowered->node(id).op == Op::rsqrt) inner = id;
  ASSERT_GE(inner, 0);
  Value squared = rewriter.add(Op::mul, {rewriter[{inner, 0}], rewriter[{inner, 0}]});
  rewriter.add_node(Op::probe, {squared}, {{"id", "square"}});
  GraphPtr probed = rewriter.finish_copy();
  GraphPtr plain = fuse(lowered), with_probe = fuse(probed);
  EXPECT_EQ(schedules(*plain), (std::vector<std::string>{"row", "matmul"}));
  EXPECT_EQ(schedules(*with_probe), (std::vector<std::string>{"row", "elementwise", "matmul"}));
  expect_same_results(probed, with_probe);
}

TEST(Fuse, AProbedValueThatAMovementTakesAlongIsComputedAgain) {
  const auto moved = [](Tensor (*move)(const Tensor&), bool by_attention) {
    Builder b("g");
    Tensor x = b.input("x", f32({2, 8, 2, 8})), v = b.input("v", f32({2, 8, 2, 8}));
    Tensor y = exp(x).named("h");
    b.output("y", move(y));
    b.output("z", v * 2.0);
    GraphPtr lowered = run_to(b.finish(), Stage::lowered);
    Rewriter rewriter(*lowered);
    for (int32_t id = 0; id < lowered->size(); ++id)
      if (lowered->node(id).op != Op::input) rewriter.copy(id);
    Value probed = rewriter[lowered->names().at("h")];
    if (by_attention) {
      const Value given = rewriter[*lowered->find_input("v")];
      probed = rewriter.add_node(Op::attention, {probed, probed, given},
                                 {{"causal", true}, {"scale", 0.5}, {"key_block", 8}})[0];
    }
    rewriter.add_node(Op::probe, {probed}, {{"id", "h"}});
    GraphPtr graph = rewriter.finish_copy();
    expect_same_results(graph, run_to(graph, Stage::fused));
  };
  for (bool by_attention : {false, true}) {
    moved([](const Tensor& y) { return transpose(y, {0, 2, 1, 3}); }, by_attention);
    moved([](const Tensor& y) { return slice(y, {0, 2, 0, 1}, {2, 5, 2, 8}); }, by_attention);
    moved([](const Tensor& y) { return concat({y, y}, 3); }, by_attention);
    moved([](const Tensor& y) { return concat({y, y}, 3) * 2.0; }, by_attention);
  }
}

TEST(Fuse, NormsOfAProbeAreTakenWhereTheValueIsAvailable) {
  Builder b("g");
  Tensor x = b.input("x", f32({2, 3, 8})).named("given"), w = b.input("w", f32({8, 8}));
  Tensor y = linear(x, w).named("product");
  b.output("z", softmax(y * 0.5).named("weights"));
  b.output("sum", y + x);
  CompileOptions options;
  options.stop = Stage::lowered;
  const GraphPtr built = b.finish();
  const auto lowered = [&](std::vector<std::string> probes) {
    options.probes = std::move(probes);
    return run_pipeline(built, options, pipeline(), {}).graph;
  };
  // One is read by the row kernel, the other made by it.
  GraphPtr plain = lowered({});
  GraphPtr probed = lowered({"product : norm(feature)", "weights : norm(feature)"});
  EXPECT_EQ(schedules(*fuse(probed)), schedules(*fuse(plain)));
  expect_same_results(probed, fuse(probed));
  // That of an input is not taken there: a kernel may write over it.
  GraphPtr given = lowered({"given : norm(axis2)"});
  EXPECT_EQ(schedules(*fuse(given)).size(), schedules(*fuse(plain)).size() + 1);
  expect_same_results(given, fuse(given));
}

TEST(Fuse, StatisticsComeFromTheBackwardKernel) {
  Model model = build_llama(test::small_model(1), 3, 5);
  CompileOptions options;
  options.stop = Stage::lowered;
  options.gradients = {"*"};
  GraphPtr plain = run_pipeline(model.graph, options, pipeline(), {}).graph;
  options.probes = {"blocks.*.attn.hook_pattern : column_mass, mean(batch)"};
  GraphPtr probed = run_pipeline(model.graph, options, pipeline(), {}).graph;
  std::vector<std::string> with_probe = schedules(*fuse(probed)), without = schedules(*fuse(plain));
  EXPECT_EQ(std::count(with_probe.begin(), with_probe.end(), "attention_stats"), 0);
  EXPECT_EQ(std::count(with_probe.begin(), with_probe.end(), "attention_grad"), 1);
  // The kernels of the program stay, in their order; those of the probe come between.
  size_t matched = 0;
  for (const std::string& schedule : with_probe)
    if (matched < without.size() && schedule == without[matched]) ++matched;
  EXPECT_EQ(matched, without.size());
  expect_same_results(probed, fuse(probed));
}

}  // namespace
}  // namespace weir
