#include "passes/sink_gradient.h"

#include <gmock/gmock.h>

#include "models/llama.h"
#include "passes/autodiff.h"
#include "passes/pass_test_util.h"
#include "passes/pipeline.h"
#include "passes/v_scale.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

GraphPtr small_llama() { return build_llama(test::small_model(), 2, 5).graph; }

// loss = sum(attention(q, k, v) w), T 5, two query heads a value head.
GraphPtr one_attention() {
  Builder b("one");
  Tensor q = b.input("q", f32({2, 5, 4, 3})), k = b.input("k", f32({2, 5, 2, 3})),
         v = b.input("v", f32({2, 5, 2, 3})), w = b.input("w", f32({2, 5, 4, 3}));
  v.named("hook_v");
  const Tensor out = attention(q, k, v, true, 0.6).out;
  b.output("loss", reshape(reduce_sum(out * w, {0, 1, 2, 3}), {}));
  return b.finish();
}

TEST(SinkGradient, MultipliesTheGradientOfOneTokenAndNoOther) {
  const GraphPtr plain = one_attention();
  for (const double gain : {0.0, 0.5, 2.0, 4.0, 3.7}) {
    const GraphPtr changed = apply_sink_gradient(plain, {.gain = gain, .token = 2});
    const DifferentiateOptions options{.wrt = {"q", "k", "v", "w"}, .named = {"hook_v_attended"}};
    const GraphPtr differentiated = differentiate(changed, options);
    const Tensors inputs = test::random_inputs(*plain, 5, -1, 1);
    Tensors expected = interpret(*differentiate(plain, {.wrt = options.wrt}), inputs);
    const Interpretation got = interpret_all(*differentiated, inputs, {"hook_v_attended.grad"});
    // What arrives is what arrived before.
    EXPECT_EQ(got.values.at("hook_v_attended.grad").data, expected.at("grad.v").data);
    HostTensor& v = expected.at("grad.v");
    constexpr size_t token = 2 * 3;  // numbers a token
    for (size_t b = 0; b < 2; ++b)
      for (size_t i = 0; i < token; ++i) v.data[(b * 5 + 2) * token + i] *= gain;
    for (const char* name : {"loss", "grad.q", "grad.k", "grad.v", "grad.w"})
      EXPECT_EQ(got.outputs.at(name).data, expected.at(name).data) << name << ", gain " << gain;
  }
}

TEST(SinkGradient, LeavesTheForwardPassBitForBit) {
  const GraphPtr before = small_llama();
  const GraphPtr after = apply_sink_gradient(before, {.gain = 0});
  EXPECT_EQ(count_ops(*after, Op::straight_through), 2);
  expect_same_results(*before, *after, 0);
  for (const auto& [name, value] : before->names()) EXPECT_TRUE(after->find(name)) << name;
  EXPECT_TRUE(added_states(*before, *after).empty());
  // Once gradients are taken the value is v itself: the same node, hence the same code.
  const GraphPtr differentiated = run_pipeline(before, {.gradients = {"*"},
                                                        .rewrites = {.sink_gradient = {.gain = 0}},
                                                        .stop = Stage::differentiated})
                                      .graph;
  EXPECT_EQ(count_ops(*differentiated, Op::straight_through), 0);
  EXPECT_EQ(differentiated->find("blocks.0.attn.hook_v_attended"),
            differentiated->find("blocks.0.attn.hook_v"));
}

TEST(SinkGradient, ChosenLayersAndWithVScale) {
  const GraphPtr model = small_llama();
  const GraphPtr one = apply_sink_gradient(model, {.gain = 2, .layers = {1}});
  EXPECT_EQ(count_ops(*one, Op::straight_through), 1);
  EXPECT_FALSE(one->find("blocks.0.attn.hook_v_attended"));
  EXPECT_TRUE(one->find("blocks.1.attn.hook_v_attended"));
  // Behind V-scale, whose theta gets the gain for that token, too.
  const GraphPtr both =
      run_pipeline(model,
                   {.rewrites = {.v_scale = {VScaleVariant::full}, .sink_gradient = {.gain = 2}},
                    .stop = Stage::built})
          .graph;
  const Value scaled = *both->find("blocks.0.attn.hook_v_scaled");
  const Value attended = *both->find("blocks.0.attn.hook_v_attended");
  EXPECT_EQ(both->node(attended).inputs[0], scaled);
  EXPECT_EQ(both->node(*both->find("blocks.0.attn.hook_z")).inputs[2], attended);
}

TEST(SinkGradient, AGainOfOneChangesNothing) {
  const GraphPtr model = small_llama();
  EXPECT_EQ(apply_sink_gradient(model, {.gain = 1, .token = 99}), model);
}

TEST(SinkGradient, Errors) {
  Builder b("mlp");
  b.output("y", exp(b.input("x", f32({2}))));
  const GraphPtr no_attention = b.finish(), model = small_llama();
  EXPECT_EQ(user_error_of([&] { apply_sink_gradient(no_attention, {.gain = 2}); }),
            "[sink_gradient] graph mlp has no attention node to rewrite. Use it on a model with "
            "attention, or leave sink_gradient.gain at 1.");
  EXPECT_THAT(user_error_of([&] { apply_sink_gradient(model, {.gain = 2, .token = 5}); }),
              HasSubstr("token 5 is asked for, but attention layer 0 of graph llama has keys 0 to "
                        "4."));
  EXPECT_THAT(user_error_of([&] { apply_sink_gradient(model, {.gain = 2, .layers = {7}}); }),
              HasSubstr("layer 7 is asked for, but graph llama has 2 attention layers, 0 to 1."));
  EXPECT_THAT(user_error_of([&] { apply_sink_gradient(model, {.gain = 1 / 0.0}); }),
              HasSubstr("the gain is inf, but a finite number is needed"));
  EXPECT_THAT(
      user_error_of([&] { apply_sink_gradient(with_stage(model, Stage::lowered), {.gain = 2}); }),
      HasSubstr("graph llama is lowered already"));
}

}  // namespace
}  // namespace weir
