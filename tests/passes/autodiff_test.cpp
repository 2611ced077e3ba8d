#include "passes/autodiff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "interpret/interpret.h"
#include "ir/builder.h"
#include "ir/print.h"
#include "models/model.h"
#include "support/error.h"
#include "testing/finite_difference.h"
#include "testing/random_tensor.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using test::gradients_match;
using test::random_inputs;
using ::testing::HasSubstr;

Tensor sum_all(const Tensor& x) {
  std::vector<int64_t> axes;
  for (int64_t i = 0; i < x.type().rank(); ++i) axes.push_back(i);
  return axes.empty() ? x : reshape(reduce_sum(x, axes), {});
}

std::string error_of(const GraphPtr& graph, const DifferentiateOptions& options) {
  try {
    differentiate(graph, options);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

int64_t count(const Graph& graph, Op op) {
  int64_t found = 0;
  for (const Node& node : graph.nodes()) found += node.op == op;
  return found;
}

TEST(Autodiff, AppendsNodesAndNamesGradients) {
  Builder b("line");
  Tensor x = b.input("x", f32({4, 3})), w = b.state("w", f32({2, 3}));
  Tensor y = linear(x, w).named("hook_y");
  b.output("loss", sum_all(y * y));
  GraphPtr graph = differentiate(b.finish(), {.wrt = {"w"}});
  EXPECT_EQ(print_graph(*graph, {.names = false}),
            "graph line (x: f32[4,3], w: f32[2,3] state) stage=differentiated\n"
            "  A = matmul x, w {transpose_b=true} : f32[4,2]\n"
            "  B = mul A, A : f32[4,2]\n"
            "  C = reduce_sum B {axes=[0,1]} : f32[1,1]\n"
            "  D = reshape C {shape=[]} : f32[]\n"
            "  E = add A, A : f32[4,2]\n"
            "  F = matmul E, x {transpose_a=true} : f32[2,3]\n"
            "  return loss = D, grad.w = F\n");
  EXPECT_TRUE(graph->find("hook_y.grad"));
  EXPECT_EQ(graph->find("w.grad"), graph->find_output("grad.w"));
}

// Two branches read one value, as attention and MLP of a parallel block do.
TEST(Autodiff, EveryNamedUseHasItsOwnGradient) {
  Builder b("branches");
  Tensor x = b.input("x", f32({4}));
  Tensor first = identity(x).named("ln1.hook_in"), second = identity(x).named("ln2.hook_in");
  b.output("loss", sum_all(exp(first) + sin(second) + x));
  GraphPtr graph =
      differentiate(b.finish(), {.wrt = {"x"}, .named = {"ln1.hook_in", "ln2.hook_in"}});
  Tensors inputs = {{"x", zeros(f32({4}))}};
  inputs.at("x").data = {-1, 0, 0.5, 2};
  Tensors values =
      interpret_all(*graph, inputs, {"ln1.hook_in.grad", "ln2.hook_in.grad", "x.grad"}).values;
  for (size_t i = 0; i < 4; ++i) {
    double x = inputs.at("x").data[i];
    EXPECT_DOUBLE_EQ(values.at("ln1.hook_in.grad").data[i], std::exp(x));
    EXPECT_DOUBLE_EQ(values.at("ln2.hook_in.grad").data[i], std::cos(x));
    EXPECT_NEAR(values.at("x.grad").data[i], std::exp(x) + std::cos(x) + 1, 1e-15);
  }
}

TEST(Autodiff, PrunesWhatNobodyWants) {
  Builder b("g");
  Tensor x = b.input("x", f32({4, 3})), w = b.state("w", f32({3, 3})), u = b.state("u", f32({3}));
  Tensor h = exp(matmul(x, w)).named("hook_h");
  b.output("loss", sum_all(sin(h * u)));
  GraphPtr graph = b.finish();
  GraphPtr only_u = differentiate(graph, {.wrt = {"u"}});
  EXPECT_EQ(count(*only_u, Op::matmul), 1);
  EXPECT_FALSE(only_u->find("hook_h.grad"));
  GraphPtr with_h = differentiate(graph, {.wrt = {"u"}, .named = {"hook_h"}});
  EXPECT_TRUE(with_h->find("hook_h.grad"));
  EXPECT_EQ(count(*with_h, Op::matmul), 1);
  EXPECT_EQ(count(*differentiate(graph, {.wrt = {"w"}}), Op::matmul), 2);
}

// A value used four times, twice by one node, and one operand broadcast two ways.
TEST(Autodiff, SumsTheContributionsOfAllUses) {
  Builder b("g");
  Tensor x = b.input("x", f32({3, 4})), s = b.input("s", f32({4}));
  Tensor y = x * s + tanh(x) * x + reduce_sum(x * x, {0}) * s;
  b.output("loss", sum_all(y * exp(s)));
  GraphPtr graph = differentiate(b.finish(), {.wrt = {"x", "s"}});
  EXPECT_TRUE(
      gradients_match(*graph, random_inputs(*graph, 3, -1, 1), {{"x", "grad.x"}, {"s", "grad.s"}}));
}

TEST(Autodiff, TiesShareTheGradient) {
  Builder b("g");
  Tensor x = b.input("x", f32({3})), y = b.input("y", f32({3}));
  b.output("loss", sum_all(maximum(x, y)) + 2.0 * sum_all(minimum(x, y)) +
                       12.0 * sum_all(reduce_max(x, {0})));
  GraphPtr graph = differentiate(b.finish(), {.wrt = {"x", "y"}});
  Tensors outputs = interpret(*graph, {{"x", {f32({3}), {5, 5, 1}}}, {"y", {f32({3}), {5, 2, 3}}}});
  EXPECT_EQ(outputs.at("grad.x").data, (std::vector<double>{1.5 + 6, 1 + 6, 2}));
  EXPECT_EQ(outputs.at("grad.y").data, (std::vector<double>{1.5, 2, 1}));
}

TEST(Autodiff, GradientsAtSpecialPoints) {
  Builder b("g");
  Tensor x = b.input("x", f32({3}));
  b.output("loss", sum_all(abs(x)) + 2.0 * sum_all(relu(x)) + 4.0 * sum_all(pow(x, 2.0)));
  GraphPtr graph = differentiate(b.finish(), {.wrt = {"x"}});
  Tensors outputs = interpret(*graph, {{"x", {f32({3}), {-1, 0, 2}}}});
  EXPECT_EQ(outputs.at("grad.x").data, (std::vector<double>{-1 - 8, 0, 1 + 2 + 16}));
}

TEST(Autodiff, SurrogateSendsTheGradientToItsSecondOperand) {
  Builder b("g");
  Tensor x = b.input("x", f32({2})), y = b.input("y", f32({2}));
  b.output("loss", sum_all(3.0 * straight_through(x * 2.0, y * y)));
  GraphPtr graph = b.finish();
  GraphPtr both = differentiate(graph, {.wrt = {"y"}});
  Tensors outputs = interpret(*both, {{"x", {f32({2}), {1, 2}}}, {"y", {f32({2}), {5, 7}}}});
  EXPECT_EQ(outputs.at("loss").data, (std::vector<double>{18}));
  EXPECT_EQ(outputs.at("grad.y").data, (std::vector<double>{30, 42}));
  EXPECT_THAT(error_of(graph, {.wrt = {"x"}}),
              HasSubstr("there is no gradient of x: the loss depends on it only through "
                        "straight_through."));
}

// The control of the study: values of the model without V-scale, gradients of the one with it.
TEST(Autodiff, BackwardOnlyVScaleHasTheGradientOfTheFullOne) {
  auto build = [](const char* variant) {
    Builder b("g");
    Tensor v = b.input("v", f32({1, 3, 2, 4})), weights = b.input("weights", f32({1, 3, 2, 4}));
    b.output("loss", sum_all(v_scale(v, 0.3, variant) * weights));
    return differentiate(b.finish(), {.wrt = {"v"}});
  };
  GraphPtr full = build("full"), backward = build("backward"), forward = build("forward");
  Tensors inputs = random_inputs(*full, 5, -1, 1);
  Tensors a = interpret(*full, inputs), c = interpret(*backward, inputs),
          d = interpret(*forward, inputs);
  EXPECT_EQ(a.at("grad.v"), c.at("grad.v"));
  EXPECT_NE(a.at("loss"), c.at("loss"));
  EXPECT_EQ(d.at("loss"), a.at("loss"));
  EXPECT_EQ(d.at("grad.v"), inputs.at("weights"));
}

TEST(Autodiff, WeightGradientOfALinearIsOneProductInTheWeightsLayout) {
  Builder b("g");
  Tensor x = b.input("x", f32({2, 8, 3})), w = b.state("w", f32({5, 3}));
  b.output("loss", sum_all(sin(linear(x, w))));
  GraphPtr graph = differentiate(b.finish(), {.wrt = {"w"}});
  const Node& product = graph->node(*graph->find_output("grad.w"));
  EXPECT_EQ(product.op, Op::matmul);
  EXPECT_TRUE(product.attrs.get_bool("transpose_a"));
  EXPECT_EQ(graph->type(product.inputs[0]), f32({16, 5}));
  EXPECT_EQ(graph->type(product.inputs[1]), f32({16, 3}));
}

TEST(Autodiff, LossHeadComputesLossAndGradientsAtOnce) {
  Builder b("g");
  Tensor x = b.input("x", f32({6, 3})), w = b.state("w", f32({5, 3}));
  Tensor targets = b.input("targets", i32({6})), scale = b.input("scale", f32({}));
  b.output("loss",
           b.add(Op::linear_cross_entropy, {x, w, targets, scale}, {}, Where::current())[0]);
  GraphPtr graph = differentiate(b.finish(), {.wrt = {"x", "w"}});
  EXPECT_EQ(print_graph(*graph, {.names = false}),
            "graph g (x: f32[6,3], w: f32[5,3] state, targets: i32[6], scale: f32[]) "
            "stage=differentiated\n"
            "  A, B, C = linear_cross_entropy_grad x, w, targets, scale : f32[], f32[6,3], "
            "f32[5,3]\n"
            "  return loss = A, grad.x = B, grad.w = C\n");
}

TEST(Autodiff, IgnoredTargetsHaveNoGradient) {
  Builder b("g");
  Tensor logits = b.input("logits", f32({2, 3})), targets = b.input("targets", i32({2}));
  b.output("loss", cross_entropy(logits, targets, b.constant(0.5)));
  GraphPtr graph = differentiate(b.finish(), {.wrt = {"logits"}});
  Tensors outputs = interpret(
      *graph, {{"logits", {f32({2, 3}), {0, 0, 0, 1, 2, 3}}}, {"targets", {i32({2}), {1, -1}}}});
  std::vector<double> gradient = outputs.at("grad.logits").data;
  EXPECT_NEAR(gradient[0], 0.5 / 3, 1e-15);
  EXPECT_NEAR(gradient[1], 0.5 / 3 - 0.5, 1e-15);
  EXPECT_EQ((std::vector<double>{gradient[3], gradient[4], gradient[5]}),
            (std::vector<double>{0, 0, 0}));
}

TEST(Autodiff, ListsEveryNameThatDoesNotExist) {
  Builder b("g");
  Tensor x = b.input("embedding", f32({2}));
  b.output("loss", sum_all(exp(x).named("hook_embed")));
  GraphPtr graph = b.finish();
  EXPECT_EQ(error_of(graph, {.wrt = {"embeding"}, .named = {"hook_embd"}}),
            "[autodiff] 2 problems:\n"
            "  - the graph has no input embeding. Did you mean embedding?\n"
            "  - the graph has no value named hook_embd. Did you mean hook_embed?");
  EXPECT_EQ(error_of(graph, {.loss = "los", .wrt = {"embedding"}}),
            "[autodiff] there is no output los to differentiate; the graph returns loss. Did you "
            "mean loss?");
  EXPECT_EQ(error_of(graph, {}),
            "[autodiff] nothing to differentiate by: name at least one input or value.");
}

TEST(Autodiff, SaysWhyAValueHasNoGradient) {
  Builder b("g");
  Tensor x = b.input("x", f32({2})), y = b.input("y", f32({2})), ids = b.input("ids", i32({2}));
  Tensor unused = b.input("unused", f32({2}));
  exp(unused).named("hook_aside");
  Tensor gate = select(gt(y, 0.0), x, stop_gradient(y));
  b.output("loss", sum_all(gate + convert(ids, DType::f32)));
  EXPECT_EQ(
      error_of(b.finish(), {.wrt = {"x", "y", "ids", "unused"}, .named = {"hook_aside"}}),
      "[autodiff] 4 problems:\n"
      "  - there is no gradient of y: the loss depends on it only through gt, stop_gradient.\n"
      "  - there is no gradient of ids: it is i32[2], and only floating-point values have "
      "gradients.\n"
      "  - there is no gradient of unused: the loss does not depend on it.\n"
      "  - there is no gradient of hook_aside: the loss does not depend on it.");
}

TEST(Autodiff, ListsEveryOpWithoutAGradientOnTheWay) {
  Builder b("g");
  Tensor q = b.input("q", f32({1, 3, 1, 2})), aside = b.input("aside", f32({1, 3, 1, 2}));
  Tensor ids = b.input("ids", i32({3}));
  auto [out, rows] = attention(q, q, q, true, 1.0);
  Tensor pattern = b.add(Op::attention_pattern, {q, q, rows}, {{"causal", true}, {"scale", 1.0}},
                         Where::current())[0]
                       .named("hook_pattern");
  Tensor gradient = b.add(Op::embedding_grad, {ids, reshape(q, {3, 2})}, {{"vocabulary", 4}},
                          Where::current())[0];
  b.output("loss", sum_all(pattern) + sum_all(gradient) + sum_all(aside));
  GraphPtr graph = b.finish();
  std::string text = error_of(graph, {.wrt = {"q"}});
  EXPECT_THAT(text, HasSubstr("[autodiff] 2 problems:"));
  EXPECT_THAT(text, HasSubstr("attention_pattern (hook_pattern) built at autodiff_test.cpp:"));
  EXPECT_THAT(text, HasSubstr("embedding_grad built at autodiff_test.cpp:"));
  EXPECT_THAT(text,
              HasSubstr("lies on the way to the loss, but has no gradient. Put "
                        "stop_gradient on its operands, or build it from ops that have one."));
  EXPECT_EQ(error_of(graph, {.wrt = {"aside"}}), "no error");
}

TEST(Autodiff, AGradientIntoRowStatisticsIsAnError) {
  Builder b("g");
  Tensor q = b.input("q", f32({1, 3, 1, 2}));
  auto [out, rows] = attention(q, q, q, true, 1.0);
  b.output("loss", sum_all(out) + sum_all(rows));
  EXPECT_THAT(error_of(b.finish(), {.wrt = {"q"}}),
              HasSubstr("the loss depends on the row statistics of an attention, through which no "
                        "gradient flows. Put stop_gradient on it"));
}

TEST(Autodiff, TheLossIsOneNumber) {
  Builder b("g");
  b.output("loss", exp(b.input("x", f32({2, 3}))));
  EXPECT_EQ(error_of(b.finish(), {.wrt = {"x"}}),
            "[autodiff] the loss loss is f32[2,3], but one floating-point number is needed. Reduce "
            "it with reduce_sum or reduce_mean.");
}

// Every placement of norms, with the gates behind them, through a whole model.
TEST(Autodiff, ModelsOfEveryNormPlace) {
  for (const std::string& place : norm_places()) {
    SCOPED_TRACE(place);
    ModelConfig config = test::tiny_model();
    config.norm_place = place;
    config.norm_gate = 3;
    const GraphPtr model = build_model(config, 1, 4).graph;
    std::vector<std::string> weights = {"model.embed_tokens.weight",
                                        "model.layers.0.self_attn.v_proj.weight",
                                        "model.norm.weight", "model.norm.gate_down.weight"};
    if (place != "none") weights.emplace_back("model.layers.0.input_layernorm.gate_up.weight");
    if (place == "sandwich") weights.emplace_back("model.layers.1.mlp_out_layernorm.weight");
    std::map<std::string, std::string> gradients;
    for (const std::string& weight : weights) gradients[weight] = "grad." + weight;
    const GraphPtr graph = differentiate(model, {.wrt = weights});
    EXPECT_TRUE(
        gradients_match(*graph, random_inputs(*graph, 3, -0.8, 0.8), gradients, {.elements = 12}));
  }
}

}  // namespace
}  // namespace weir
