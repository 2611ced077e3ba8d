#include "passes/value_gate.h"

#include <gmock/gmock.h>

#include <cmath>

#include "models/llama.h"
#include "passes/autodiff.h"
#include "passes/pass_test_util.h"
#include "passes/pipeline.h"
#include "passes/v_scale.h"
#include "testing/finite_difference.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr ValueGateOptions kHead{.variant = ValueGate::head};

GraphPtr small_llama() { return build_llama(test::small_model(), 2, 5).graph; }

TEST(ValueGate, AddsAWeightALayerAndNamesGatesAndValues) {
  const GraphPtr before = small_llama(), after = apply_value_gate(before, kHead);
  const std::vector<AddedState> added = added_states(*before, *after);
  ASSERT_EQ(added.size(), 2u);
  EXPECT_EQ(added[0].name, "model.layers.0.self_attn.value_gate.weight");
  EXPECT_EQ(added[1].name, "model.layers.1.self_attn.value_gate.weight");
  EXPECT_EQ(added[0].type, f32({2, 8}));  // a gate for each of two value heads of 4 features
  for (const char* layer : {"blocks.0.attn.", "blocks.1.attn."}) {
    const Value gated = *after->find(layer + std::string("hook_v_gated"));
    EXPECT_EQ(after->node(*after->find(layer + std::string("hook_z"))).inputs[2], gated);
    EXPECT_EQ(after->type(*after->find(layer + std::string("hook_v_gate"))), f32({2, 5, 2, 1}));
  }
  for (const auto& [name, value] : before->names()) EXPECT_TRUE(after->find(name)) << name;
}

// g = sigmoid(V W^T) with the values of all heads side by side, by hand.
TEST(ValueGate, GatesAreSigmoidsOfAMapOfTheValues) {
  Builder b("one");
  Tensor q = b.input("q", f32({1, 3, 2, 2}));
  Tensor v = b.input("v", f32({1, 3, 2, 2})).named("hook_v");
  b.output("z", attention(q, q, v, true, 1.0).out);
  const GraphPtr graph = apply_value_gate(b.finish(), kHead);
  const Tensors inputs = test::random_inputs(*graph, 9, -1, 1);
  const Interpretation got = interpret_all(*graph, inputs, {"hook_v_gate", "hook_v_gated"});
  const auto& w = inputs.at("value_gate.0.weight").data;
  const auto& values = inputs.at("v").data;
  for (size_t t = 0; t < 3; ++t)
    for (size_t h = 0; h < 2; ++h) {
      double logit = 0;
      for (size_t i = 0; i < 4; ++i) logit += values[t * 4 + i] * w[h * 4 + i];
      const double gate = 1 / (1 + std::exp(-logit));
      EXPECT_NEAR(got.values.at("hook_v_gate").data[t * 2 + h], gate, 1e-14);
      for (size_t i = 0; i < 2; ++i)
        EXPECT_NEAR(got.values.at("hook_v_gated").data[t * 4 + h * 2 + i],
                    gate * values[t * 4 + h * 2 + i], 1e-14);
    }
}

TEST(ValueGate, GradientsAreThoseOfFiniteDifferences) {
  Builder b("one");
  Tensor q = b.input("q", f32({2, 4, 4, 3})), k = b.input("k", f32({2, 4, 2, 3})),
         v = b.input("v", f32({2, 4, 2, 3}));
  const Tensor z = attention(q, k, v, true, 0.6).out;
  b.output("loss", reshape(reduce_sum(tanh(z) * z, {0, 1, 2, 3}), {}));
  const GraphPtr graph =
      differentiate(apply_value_gate(b.finish(), kHead), {.wrt = {"v", "value_gate.0.weight"}});
  EXPECT_TRUE(test::gradients_match(
      *graph, test::random_inputs(*graph, 3, -1, 1),
      {{"v", "grad.v"}, {"value_gate.0.weight", "grad.value_gate.0.weight"}}));
}

TEST(ValueGate, StartsAtOneHalf) {
  const GraphPtr before = small_llama(), after = apply_value_gate(before, kHead);
  Tensors inputs = test::random_inputs(*before, 1, -0.3, 0.3), zero = inputs;
  for (const AddedState& state : added_states(*before, *after))
    zero[state.name] = zeros(state.type);
  for (const char* layer : {"0", "1"})
    for (double& w : inputs["model.layers." + std::string(layer) + ".self_attn.v_proj.weight"].data)
      w /= 2;
  EXPECT_TRUE(
      test::close(interpret(*after, zero), interpret(*before, inputs), {.relative = 1e-13}));
}

TEST(ValueGate, StandsBehindVScaleAndAtChosenLayers) {
  const GraphPtr model = small_llama();
  const GraphPtr both = run_pipeline(model, {.rewrites = {.v_scale = {VScaleVariant::full},
                                                          .value_gate = {ValueGate::head, {1}},
                                                          .sink_gradient = {.gain = 2}},
                                             .stop = Stage::built})
                            .graph;
  ASSERT_EQ(added_states(*model, *both).size(), 1u);
  EXPECT_EQ(added_states(*model, *both)[0].name, "model.layers.1.self_attn.value_gate.weight");
  EXPECT_FALSE(both->find("blocks.0.attn.hook_v_gated"));
  const Value gated = *both->find("blocks.1.attn.hook_v_gated");
  EXPECT_EQ(both->node(gated).inputs[0], *both->find("blocks.1.attn.hook_v_scaled"));
  EXPECT_EQ(both->node(*both->find("blocks.1.attn.hook_v_attended")).inputs[0], gated);
}

TEST(ValueGate, Errors) {
  const GraphPtr model = small_llama();
  EXPECT_EQ(apply_value_gate(model, {}), model);
  Builder b("mlp");
  b.output("y", exp(b.input("x", f32({2}))));
  const GraphPtr no_attention = b.finish();
  EXPECT_EQ(user_error_of([&] { apply_value_gate(no_attention, kHead); }),
            "[value_gate] graph mlp has no attention node to rewrite. Use it on a model with "
            "attention, or leave value_gate at none.");
  EXPECT_THAT(user_error_of([&] { apply_value_gate(model, {ValueGate::head, {-1, 2}}); }),
              HasSubstr("[value_gate] 2 problems:"));
  EXPECT_EQ(user_error_of([] { parse_value_gate("heads"); }),
            "[value_gate] unknown variant 'heads'. Did you mean head? The variants are none, "
            "head.");
}

}  // namespace
}  // namespace weir
