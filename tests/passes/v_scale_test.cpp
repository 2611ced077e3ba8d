#include "passes/v_scale.h"

#include <gmock/gmock.h>

#include "models/llama.h"
#include "passes/pass_test_util.h"
#include "testing/small_model.h"

namespace weir {
namespace {

GraphPtr small_llama() {
  ModelConfig config = test::small_model();
  config.d_head = 6;  // the heads together are wider than the model
  return build_llama(config, 2, 5).graph;
}

TEST(VScale, NamesTheScaledValueAndTakesTheWidthOfTheProjection) {
  GraphPtr before = small_llama();
  GraphPtr after = apply_v_scale(before, {.variant = VScaleVariant::full, .sigma = 0.5});
  EXPECT_EQ(count_ops(*after, Op::v_scale), 2);
  for (const char* layer : {"blocks.0.attn.", "blocks.1.attn."}) {
    Value v = *after->find(layer + std::string("hook_v"));
    Value scaled = *after->find(layer + std::string("hook_v_scaled"));
    const Node& node = after->node(scaled);
    EXPECT_EQ(node.op, Op::v_scale);
    EXPECT_EQ(node.inputs, std::vector<Value>{v});
    // d_model d_head sigma^2, the heads together being wider than the model.
    EXPECT_DOUBLE_EQ(node.attrs.get_float("c"), 16 * 6 * 0.25);
    Value z = *after->find(layer + std::string("hook_z"));
    EXPECT_EQ(after->node(z).inputs[2], scaled);
  }
  EXPECT_TRUE(added_states(*before, *after).empty());
  for (const auto& [name, value] : before->names()) EXPECT_TRUE(after->find(name)) << name;
}

TEST(VScale, LearnedAddsAStateALayer) {
  GraphPtr before = small_llama();
  GraphPtr after = apply_v_scale(before, {.variant = VScaleVariant::learned});
  std::vector<AddedState> added = added_states(*before, *after);
  ASSERT_EQ(added.size(), 2u);
  EXPECT_EQ(added[0].name, "model.layers.0.self_attn.v_scale.theta");
  EXPECT_EQ(added[1].name, "model.layers.1.self_attn.v_scale.theta");
  EXPECT_EQ(added[0].type, f32({2}));
  EXPECT_EQ(after->node(*after->find("blocks.0.attn.hook_v_scaled")).attrs.get_string("variant"),
            "full");
}

TEST(VScale, BackwardLeavesTheLossBitForBit) {
  GraphPtr before = small_llama();
  expect_same_results(*before, *apply_v_scale(before, {.variant = VScaleVariant::backward}), 0);
}

TEST(VScale, LearnedWithThetaZeroIsFull) {
  GraphPtr before = small_llama();
  GraphPtr full = apply_v_scale(before, {.variant = VScaleVariant::full, .sigma = 0.3});
  GraphPtr learned = apply_v_scale(before, {.variant = VScaleVariant::learned, .sigma = 0.3});
  Tensors inputs = test::random_inputs(*before, 1, -0.3, 0.3);
  Tensors with_theta = inputs;
  for (const AddedState& state : added_states(*before, *learned))
    with_theta[state.name] = zeros(state.type);
  Tensors plain = interpret(*before, inputs), scaled = interpret(*full, inputs);
  EXPECT_NE(plain.at("loss").data[0], scaled.at("loss").data[0]);
  EXPECT_TRUE(test::close(interpret(*learned, with_theta), scaled, {.relative = 1e-14}));
}

TEST(VScale, WorksOnAnyModelAndChosenLayers) {
  Builder b("custom");
  Tensor x = b.input("x", f32({1, 4, 2, 6}));
  Tensor first = attention(x, x, tanh(x), false, 1.0).out;
  b.output("y", attention(first, first, first, false, 1.0).out);
  GraphPtr before = b.finish();
  GraphPtr after = apply_v_scale(before, {.variant = VScaleVariant::learned, .layers = {1}});
  EXPECT_EQ(count_ops(*after, Op::v_scale), 1);
  ASSERT_EQ(added_states(*before, *after).size(), 1u);
  EXPECT_EQ(added_states(*before, *after)[0].name, "v_scale.1.theta");
  // The queries and keys of that layer, which are the same value, stay as they were.
  const Node& second = after->node(*after->find_output("y"));
  EXPECT_EQ(after->node(second.inputs[0]).op, Op::attention);
  EXPECT_EQ(second.inputs[0], second.inputs[1]);
  EXPECT_EQ(after->node(second.inputs[2]).op, Op::v_scale);
}

TEST(VScale, NoneChangesNothing) {
  GraphPtr before = small_llama();
  EXPECT_EQ(apply_v_scale(before, {}), before);
}

TEST(VScale, Errors) {
  Builder b("mlp");
  b.output("y", exp(b.input("x", f32({2}))));
  GraphPtr no_attention = b.finish();
  EXPECT_EQ(user_error_of([&] { apply_v_scale(no_attention, {.variant = VScaleVariant::full}); }),
            "[v_scale] graph mlp has no attention node to rewrite. Use it on a model with "
            "attention, or leave v_scale at none.");
  GraphPtr model = small_llama();
  EXPECT_THAT(user_error_of([&] {
                apply_v_scale(model, {.variant = VScaleVariant::full, .layers = {0, 2, 7}});
              }),
              testing::HasSubstr("layer 7 is asked for, but graph llama has 2 attention layers, 0 "
                                 "to 1."));
  GraphPtr scaled = apply_v_scale(model, {.variant = VScaleVariant::full, .layers = {1}});
  EXPECT_EQ(user_error_of([&] { apply_v_scale(scaled, {.variant = VScaleVariant::full}); }),
            "[v_scale] the value of attention layer 1 is scaled already. Apply V-scale once.");
  EXPECT_THAT(user_error_of([&] {
                apply_v_scale(model, {.variant = VScaleVariant::full, .sigma = 0, .lambda = -1});
              }),
              testing::HasSubstr("[v_scale] 2 problems:"));
  EXPECT_THAT(user_error_of([&] {
                apply_v_scale(with_stage(model, Stage::lowered), {.variant = VScaleVariant::full});
              }),
              testing::HasSubstr("graph llama is lowered already"));
  EXPECT_EQ(user_error_of([] { parse_v_scale_variant("backwards"); }),
            "[v_scale] unknown variant 'backwards'. Did you mean backward-only? The variants are "
            "none, full, learned, backward-only, forward-only.");
  EXPECT_EQ(parse_v_scale_variant("forward"), VScaleVariant::forward);
  EXPECT_EQ(parse_v_scale_variant("forward-only"), VScaleVariant::forward);
}

}  // namespace
}  // namespace weir
