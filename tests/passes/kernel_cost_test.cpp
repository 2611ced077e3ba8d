#include "passes/kernel_cost.h"

#include <gtest/gtest.h>

#include "models/llama.h"
#include "passes/autodiff.h"
#include "passes/loss_head.h"
#include "passes/pass_test_util.h"
#include "passes/pipeline.h"
#include "passes/training_step.h"

namespace weir {
namespace {

TEST(KernelCost, ProductWithItsEpilogue) {
  Builder b("region");
  Tensor x = b.input("x", f32({2, 3, 5})), w = b.input("w", f32({7, 5})),
         r = b.input("r", f32({2, 3, 7}));
  b.input("unused", f32({1000}));
  b.output("y", r + linear(x, w));
  const KernelCost cost = region_cost(*b.finish());
  EXPECT_EQ(cost.products, 2 * 6 * 7 * 5);
  EXPECT_EQ(cost.others, 42);
  EXPECT_EQ(cost.operations(), 2 * 6 * 7 * 5 + 42);
  EXPECT_EQ(cost.bytes, 4 * (30 + 35 + 42 + 42));
}

TEST(KernelCost, TransposedOperandAndBatch) {
  Builder b("region");
  Tensor x = b.input("x", f32({4, 11, 6})), y = b.input("y", f32({4, 11, 3}));
  b.output("z", matmul(x, y, {.transpose_a = true}));
  EXPECT_EQ(region_cost(*b.finish()).products, 2.0 * 4 * 6 * 3 * 11);
}

TEST(KernelCost, ReductionsCountTheirOperandMovementNothing) {
  Builder b("region");
  Tensor x = b.input("x", f32({8, 16}));
  b.output("y", reduce_sum(transpose(x, {1, 0}) * 2.0, {1}));
  const KernelCost cost = region_cost(*b.finish());
  EXPECT_EQ(cost.products, 0);
  EXPECT_EQ(cost.others, 128 + 128);
  EXPECT_EQ(cost.bytes, 4 * (128 + 16));
}

TEST(KernelCost, OfATableOnlyTheRowsLookedUp) {
  Builder b("region");
  Tensor table = b.input("table", f32({1000, 8})), ids = b.input("ids", i32({5}));
  b.output("x", embedding(table, ids));
  const KernelCost cost = region_cost(*b.finish());
  EXPECT_EQ(cost.operations(), 0);
  EXPECT_EQ(cost.bytes, 4 * (5 * 8 + 5 + 5 * 8));
}

TEST(KernelCost, CausalAttentionCountsHalfOfItsPairs) {
  const auto forward = [](bool causal) {
    Builder b("region");
    const Type q = f32({2, 16, 6, 4}), k = f32({2, 16, 3, 4});
    b.output("z", attention(b.input("q", q), b.input("k", k), b.input("v", k), causal, 0.5).out);
    return region_cost(*b.finish()).products;
  };
  EXPECT_EQ(forward(false), 2 * 2.0 * (2 * 6) * 16 * 16 * 4);
  EXPECT_EQ(forward(true), forward(false) / 2);
}

TEST(KernelCost, StatisticsBesideABackwardKernelComeFree) {
  const auto products = [](bool gradient) {
    Builder b("region");
    const Type type = f32({1, 8, 2, 4});
    Tensor q = b.input("q", type), k = b.input("k", type), v = b.input("v", type);
    Tensor z = b.input("z", type), rows = b.input("rows", f32({1, 2, 2, 8})),
           dz = b.input("dz", type);
    Attrs attrs{{"causal", true}, {"scale", 0.5}};
    if (gradient) {
      auto out = b.add(Op::attention_grad, {q, k, v, z, rows, dz}, attrs, Where::current());
      b.output("dq", out[0]);
    }
    Attrs with_sink = attrs;
    with_sink.set("sink", int64_t{0});
    b.output("mass", b.add(Op::attention_stats, {q, k, rows}, with_sink, Where::current())[0]);
    return region_cost(*b.finish()).products;
  };
  const double one = 2.0 * 2 * 8 * 8 * 4 / 2;
  EXPECT_EQ(products(false), one);
  EXPECT_EQ(products(true), 4 * one);
}

TEST(KernelCost, LossHeadIsLogitsAndTheGradientsThatAreWanted) {
  const auto cost = [](bool dw) {
    Builder b("region");
    Tensor x = b.input("x", f32({6, 4})), w = b.input("w", f32({9, 4}));
    Tensor t = b.input("t", i32({6})), s = b.input("s", f32({}));
    auto out = b.add(Op::linear_cross_entropy_grad, {x, w, t, s}, {}, Where::current());
    b.output("loss", out[0]);
    b.output("dx", out[1]);
    if (dw) b.output("dw", out[2]);
    return region_cost(*b.finish());
  };
  EXPECT_EQ(cost(true).products, 3 * 2.0 * 6 * 9 * 4);
  EXPECT_EQ(cost(true).bytes, 4 * (24 + 36 + 6 + 1 + 1 + 24 + 36));
  EXPECT_EQ(cost(false).products, 2 * 2.0 * 6 * 9 * 4);
}

// The formula of a whole step against the sum over its kernels.
TEST(KernelCost, KernelsOfAStepAddUpToItsFormula) {
  ModelConfig config{.layers = 2, .d_model = 32, .heads = 4, .d_ff = 48, .vocabulary = 29};
  const int64_t B = 2, T = 16;
  const Model model = build_llama(config, B, T);
  DifferentiateOptions differentiation;
  TrainingOptions training;
  int64_t multiplying = 0, gains = 0;
  for (const Parameter& parameter : model.parameters) {
    differentiation.wrt.push_back(parameter.name);
    if (parameter.name != "model.embed_tokens.weight") multiplying += parameter.type.elements();
    if (parameter.type.shape.size() == 1) gains += parameter.type.elements();
  }
  GraphPtr gradients = differentiate(fuse_loss_head(model.graph), differentiation);
  const GraphPtr planned = run_pipeline(make_training_programs(gradients, training).step, {}).graph;
  double products = 0;
  for (const Node& node : planned->nodes())
    if (node.op == Op::kernel) products += kernel_cost(node).products;
  EXPECT_EQ(products, training_operations(multiplying - gains, config.layers, B, T, 32));
}

TEST(KernelCost, StepOfLlama) {
  const Model model = build_llama(llama_config("llama-0.1b"), 1, 8);
  int64_t multiplying = 0;
  for (const Parameter& parameter : model.parameters)
    if (parameter.name != "model.embed_tokens.weight") multiplying += parameter.type.elements();
  EXPECT_NEAR(training_operations(multiplying, 16, 4, 1024, 512), 2.10e12, 0.005e12);
}

}  // namespace
}  // namespace weir
