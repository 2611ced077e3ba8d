#include "passes/norm_jacobian.h"

#include <gmock/gmock.h>

#include <cmath>

#include "models/llama.h"
#include "passes/autodiff.h"
#include "passes/pass_test_util.h"
#include "passes/pipeline.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr NormJacobianOptions kControl{.variant = NormJacobian::without_rms};

GraphPtr small_llama() { return build_llama(test::small_model(), 2, 5).graph; }

// The formula of the header by hand, with rows of very different size.
TEST(NormJacobian, IsTheProjectionWithoutTheDivision) {
  constexpr size_t rows = 4, width = 6;
  constexpr double eps = 1e-5;
  Builder b("norm");
  Tensor x = b.input("x", f32({1, rows, width})), gamma = b.input("gamma", f32({width})),
         w = b.input("w", f32({1, rows, width}));
  b.output("loss", reshape(reduce_sum(rms_norm(x, gamma, eps) * w, {0, 1, 2}), {}));
  const GraphPtr plain = b.finish();
  const std::vector<std::string> wrt = {"x", "gamma", "w"};
  Tensors inputs = test::random_inputs(*plain, 3, -1, 1);
  for (size_t row = 0; row < rows; ++row)
    for (size_t i = 0; i < width; ++i)
      inputs["x"].data[row * width + i] *= std::pow(30.0, static_cast<double>(row) - 1);
  const Tensors exact = interpret(*differentiate(plain, {.wrt = wrt}), inputs);
  const Tensors got =
      interpret(*differentiate(apply_norm_jacobian(plain, kControl), {.wrt = wrt}), inputs);
  for (const char* name : {"loss", "grad.gamma", "grad.w"})
    EXPECT_EQ(got.at(name).data, exact.at(name).data) << name;
  const auto& xs = inputs["x"].data;
  for (size_t row = 0; row < rows; ++row) {
    const double* v = &xs[row * width];
    double square = 0, mean = 0;
    for (size_t i = 0; i < width; ++i) square += v[i] * v[i] / width;
    const double rms = std::sqrt(square + eps);
    const auto g = [&](size_t i) {
      return inputs["w"].data[row * width + i] * inputs["gamma"].data[i];
    };
    for (size_t i = 0; i < width; ++i) mean += g(i) * v[i] / rms / width;
    for (size_t i = 0; i < width; ++i) {
      const double expected = g(i) - v[i] / rms * mean;
      EXPECT_NEAR(got.at("grad.x").data[row * width + i], expected, 1e-13);
      EXPECT_NEAR(exact.at("grad.x").data[row * width + i] * rms, expected, 1e-13);
    }
  }
}

TEST(NormJacobian, LeavesTheForwardPassBitForBit) {
  const GraphPtr before = small_llama();
  const GraphPtr after = apply_norm_jacobian(before, kControl);
  EXPECT_EQ(count_ops(*after, Op::straight_through), 5);
  expect_same_results(*before, *after, 0);
  for (const auto& [name, value] : before->names()) EXPECT_TRUE(after->find(name)) << name;
  const GraphPtr differentiated = run_pipeline(before, {.gradients = {"*"},
                                                        .rewrites = {.norm_jacobian = kControl},
                                                        .stop = Stage::differentiated})
                                      .graph;
  EXPECT_EQ(count_ops(*differentiated, Op::straight_through), 0);
  EXPECT_EQ(count_ops(*differentiated, Op::rms_norm), 5);
}

TEST(NormJacobian, ChosenBlocksHaveTheirOwnNormsAlone) {
  const GraphPtr model = small_llama();
  const GraphPtr one =
      apply_norm_jacobian(model, {.variant = NormJacobian::without_rms, .layers = {1}});
  EXPECT_EQ(count_ops(*one, Op::straight_through), 2);
  for (const char* norm : {"blocks.0.ln1", "blocks.0.ln2", "ln_final"}) {
    const Node& node = one->node(*one->find(norm + std::string(".hook_normalized")));
    EXPECT_NE(one->node(node.inputs[0]).op, Op::straight_through) << norm;
  }
}

// Norms of the features of a head are no norms of the stream.
TEST(NormJacobian, LeavesNormsOfQueriesAndKeys) {
  ModelConfig config = test::small_model();
  config.architecture = "qwen3";
  const GraphPtr model = build_model(config, 2, 5).graph;
  EXPECT_EQ(count_ops(*model, Op::rms_norm), 9);
  EXPECT_EQ(count_ops(*apply_norm_jacobian(model, kControl), Op::straight_through), 5);
}

TEST(NormJacobian, Names) {
  for (NormJacobian variant : norm_jacobians())
    EXPECT_EQ(parse_norm_jacobian(norm_jacobian_name(variant)), variant);
  EXPECT_EQ(user_error_of([] { parse_norm_jacobian("without-rsm"); }),
            "[norm_jacobian] unknown variant 'without-rsm'. Did you mean without-rms? The variants "
            "are exact, without-rms.");
}

TEST(NormJacobian, Errors) {
  const GraphPtr model = small_llama();
  EXPECT_EQ(apply_norm_jacobian(model, {}), model);
  Builder b("mlp");
  b.output("y", exp(b.input("x", f32({2}))));
  const GraphPtr no_norm = b.finish();
  EXPECT_EQ(user_error_of([&] { apply_norm_jacobian(no_norm, kControl); }),
            "[norm_jacobian] graph mlp has no RMSNorm on its residual stream. Use it on a model "
            "that has one, or leave norm_jacobian at exact.");
  EXPECT_EQ(user_error_of([&] {
              apply_norm_jacobian(model, {.variant = NormJacobian::without_rms, .layers = {0, 2}});
            }),
            "[norm_jacobian] layer 2 is asked for, but graph llama has no RMSNorm whose input is "
            "named blocks.2.*.hook_in. Blocks that have one: 0, 1.");
  EXPECT_THAT(
      user_error_of([&] { apply_norm_jacobian(with_stage(model, Stage::lowered), kControl); }),
      HasSubstr("graph llama is lowered already"));
}

}  // namespace
}  // namespace weir
