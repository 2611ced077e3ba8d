#include "passes/dial.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "models/llama.h"
#include "passes/attention_normalizer.h"
#include "passes/autodiff.h"
#include "passes/cut.h"
#include "passes/pass_test_util.h"
#include "testing/finite_difference.h"
#include "testing/small_model.h"

namespace weir {
namespace {

constexpr int64_t kB = 2, kT = 5, kH = 4, kG = 2, kD = 4;

GraphPtr small_llama() { return build_llama(test::small_model(), kB, kT).graph; }

// One attention of two query heads on one key head.
GraphPtr plain_attention() {
  Builder b("one");
  Tensor q = b.input("q", f32({1, 3, 2, 4})), k = b.input("k", f32({1, 3, 1, 4}));
  b.output("z", attention(q, k, b.input("v", f32({1, 3, 1, 4})), true, 0.5).out);
  return b.finish();
}

// What the dial is set to; heads that are not given stay neutral.
struct Setting {
  std::vector<double> keys;
  std::vector<double> amount;  ///< [H,K]
};

Tensors with(Tensors inputs, const GraphPtr& dialled, const Setting& setting) {
  inputs[kDialKeys] = {dialled->type(*dialled->find_input(kDialKeys)), setting.keys};
  inputs[kDialAmount] = {dialled->type(*dialled->find_input(kDialAmount)), setting.amount};
  return inputs;
}

struct Sample {
  DialOptions options;
  Setting neutral, turned;
};

std::vector<Sample> samples() {
  using enum DialRewrite;
  const std::vector<double> zeros(kH, 0), ones(kH, 1);
  return {{{.rewrite = key_logits, .layer = 1}, {{0}, zeros}, {{1}, {0.5, -1, 2, 0}}},
          {{.rewrite = key_logits, .layer = 0, .keys = 3},
           {{0, 2, -1}, std::vector<double>(3 * kH, 0)},
           {{3, 1, -1}, {1, 2, 3, -1, 0, 1, 0, 0, 0, kBlocked, 1, 0}}},
          {{.rewrite = key_weights, .layer = 1}, {{2}, ones}, {{0}, {0.25, 1, 3, 0}}},
          {{.rewrite = key_value, .layer = 0}, {{1}, ones}, {{0}, {0, 1, 2, -1}}},
          {{.rewrite = key_exchange, .layer = 1}, {{2, 2}, ones}, {{0, 2}, {1, 0, 1, 1}}},
          {{.rewrite = token_scale, .hook = "blocks.1.ln1.hook_in"}, {{0}, {1}}, {{1}, {0.3}}},
          {{.rewrite = token_scale, .hook = "blocks.1.hook_resid_pre"}, {{3}, {1}}, {{2}, {4}}}};
}

TEST(Dial, TextOfALogit) {
  const GraphPtr after = apply_dial(plain_attention(), {});
  EXPECT_EQ(print_graph(*after, {.names = false}),
            "graph one (q: f32[1,3,2,4], k: f32[1,3,1,4], v: f32[1,3,1,4], dial.keys: i32[1], "
            "dial.amount: f32[2,1]) stage=built\n"
            "  A = reshape k {shape=[1,3,1,1,4]} : f32[1,3,1,1,4]\n"
            "  B = broadcast A {shape=[1,3,1,2,4]} : f32[1,3,1,2,4]\n"
            "  C = reshape B {shape=[1,3,2,4]} : f32[1,3,2,4]\n"
            "  D = reshape v {shape=[1,3,1,1,4]} : f32[1,3,1,1,4]\n"
            "  E = broadcast D {shape=[1,3,1,2,4]} : f32[1,3,1,2,4]\n"
            "  F = reshape E {shape=[1,3,2,4]} : f32[1,3,2,4]\n"
            "  G = reshape dial.amount {shape=[1,1,2,1]} : f32[1,1,2,1]\n"
            "  H = constant {value=0.5} : f32[]\n"
            "  I = div G, H : f32[1,1,2,1]\n"
            "  J = reshape dial.keys {shape=[1,1,1,1]} : i32[1,1,1,1]\n"
            "  K = iota {axis=1} : i32[1,3,1,1]\n"
            "  L = gt K, J : bool[1,3,1,1]\n"
            "  M = constant {value=0} : f32[]\n"
            "  N = select L, I, M : f32[1,3,2,1]\n"
            "  O = pad N {high=[0,0,0,15], low=[0,0,0,0]} : f32[1,3,2,16]\n"
            "  P = concat q, O {axis=3} : f32[1,3,2,20]\n"
            "  Q = constant {value=1} : f32[]\n"
            "  R = eq K, J : bool[1,3,1,1]\n"
            "  S = select R, Q, M : f32[1,3,1,1]\n"
            "  T = broadcast S {shape=[1,3,2,1]} : f32[1,3,2,1]\n"
            "  U = pad T {high=[0,0,0,15], low=[0,0,0,0]} : f32[1,3,2,16]\n"
            "  V = concat C, U {axis=3} : f32[1,3,2,20]\n"
            "  W = concat F, U {axis=3} : f32[1,3,2,20]\n"
            "  X, Y = attention P, V, W {causal=true, scale=0.5} : f32[1,3,2,20], f32[1,2,2,3]\n"
            "  Z = slice X {limits=[1,3,2,4], starts=[0,0,0,0]} : f32[1,3,2,4]\n"
            "  AA = slice X {limits=[1,3,2,5], starts=[0,0,0,4]} : f32[1,3,2,1]\n"
            "  return z = Z\n");
  EXPECT_EQ(print_node(*after, after->find(kDialWeights)->node).substr(0, 10), "AA = slice");
  EXPECT_TRUE(after->find(kDialValues));
}

TEST(Dial, NeutralSettingsLeaveTheModel) {
  const GraphPtr model = small_llama();
  const Tensors inputs = test::random_inputs(*model, 1, -0.4, 0.4);
  for (const Sample& sample : samples()) {
    const GraphPtr dialled = apply_dial(model, sample.options);
    for (const auto& [name, value] : model->names()) EXPECT_TRUE(dialled->find(name)) << name;
    const double plain = interpret(*model, inputs).at("loss").data[0];
    const auto loss = [&](const Setting& setting) {
      return interpret(*dialled, with(inputs, dialled, setting)).at("loss").data[0];
    };
    EXPECT_NEAR(loss(sample.neutral), plain, 1e-13);
    EXPECT_GT(std::abs(loss(sample.turned) - plain), 1e-7);
  }
}

TEST(Dial, GradientsAreThoseOfFiniteDifferences) {
  const GraphPtr model = small_llama();
  for (const Sample& sample : samples()) {
    if (sample.options.rewrite == DialRewrite::key_weights) continue;  // not the derivative
    const GraphPtr dialled = apply_dial(model, sample.options);
    const std::vector<std::string> wrt = {"model.embed_tokens.weight",
                                          "model.layers.1.self_attn.v_proj.weight",
                                          "model.layers.0.self_attn.k_proj.weight"};
    std::map<std::string, std::string> gradients;
    for (const std::string& name : wrt) gradients[name] = gradient_output(name);
    const Tensors inputs = with(test::random_inputs(*model, 2, -0.4, 0.4), dialled, sample.turned);
    EXPECT_TRUE(test::gradients_match(*differentiate(dialled, {.wrt = wrt}), inputs, gradients));
  }
}

// One layer's attention, cut out: weights a[b,h,t,s], values and the loss by G.
struct OneLayer {
  GraphPtr model = small_llama();
  GraphPtr graph;
  Tensors inputs;

  explicit OneLayer(AttentionNormalizer normalizer = AttentionNormalizer::softmax) {
    model = apply_attention_normalizer(model, normalizer);
    const Node& attention = model->node(find_attention(*model, 1));
    const Value z = *model->find("blocks.1.attn.hook_z");
    graph = with_upstream(model, z, "G");
    const Node& moved = graph->node(find_attention(*graph, 1));
    (void)attention;
    graph = cut(graph, {{moved.inputs[0], "q"}, {moved.inputs[1], "k"}, {moved.inputs[2], "v"}});
    inputs = test::random_inputs(*graph, 7);
  }

  Interpretation run(const DialOptions& options, const Setting& setting) const {
    const GraphPtr dialled = differentiate(apply_dial(graph, options), {.named = {kDialValues}});
    return interpret_all(
        *dialled, with(inputs, dialled, setting),
        {kDialWeights, "dial.values.grad", "blocks.1.attn.hook_z", "blocks.1.attn.hook_pattern"});
  }
  Interpretation plain() const {
    return interpret_all(*graph, inputs, {"blocks.1.attn.hook_z", "blocks.1.attn.hook_pattern"});
  }
};

constexpr AttentionNormalizer kBoth[] = {AttentionNormalizer::softmax,
                                         AttentionNormalizer::softmax_1};

TEST(Dial, ALogitIsAddedForLaterQueriesAlone) {
  for (AttentionNormalizer normalizer : kBoth) {
    const OneLayer layer(normalizer);
    const HostTensor before = layer.plain().values.at("blocks.1.attn.hook_pattern");
    const std::vector<double> logit = {1.5, 0, -2, kBlocked};
    const Interpretation after = layer.run({}, {{1}, logit});
    const HostTensor &a = after.values.at("blocks.1.attn.hook_pattern"),
                     &column = after.values.at(kDialWeights);
    for (int64_t b = 0; b < kB; ++b)
      for (int64_t h = 0; h < kH; ++h)
        for (int64_t t = 0; t < kT; ++t) {
          const double old = before.at({b, h, t, 1}), c = std::exp(logit[h]);
          const double sink = t > 1 ? c * old / (1 + (c - 1) * old) : old;
          EXPECT_NEAR(a.at({b, h, t, 1}), sink, 1e-12);
          EXPECT_NEAR(column.at({b, t, h, 0}), sink, 1e-12);
          const double others = t > 1 ? 1 / (1 + (c - 1) * old) : 1;
          EXPECT_NEAR(a.at({b, h, t, 0}), others * before.at({b, h, t, 0}), 1e-12);
        }
  }
}

TEST(Dial, ABlockedKeyHasNoWeight) {
  const OneLayer layer;
  const Interpretation after =
      layer.run({.keys = 2}, {{0, 3}, std::vector<double>(2 * kH, kBlocked)});
  const HostTensor& a = after.values.at("blocks.1.attn.hook_pattern");
  for (int64_t t = 1; t < kT; ++t) EXPECT_EQ(a.at({0, 2, t, 0}), 0);
  EXPECT_EQ(a.at({0, 2, 0, 0}), 1);
  EXPECT_GT(a.at({0, 2, 3, 3}), 0);
  EXPECT_EQ(a.at({0, 2, 4, 3}), 0);
}

TEST(Dial, TheValueGradientIsTheWeightsTimesTheUpstreamGradient) {
  for (AttentionNormalizer normalizer : kBoth)
    for (const Sample& sample : samples()) {
      if (sample.options.rewrite == DialRewrite::token_scale) continue;
      const OneLayer layer(normalizer);
      DialOptions options = sample.options;
      options.layer = 0;  // of what was cut out
      const Interpretation result = layer.run(options, sample.turned);
      const HostTensor &column = result.values.at(kDialWeights),
                       &dv = result.values.at("dial.values.grad"), &g = layer.inputs.at("G");
      ASSERT_EQ(dv.shape(), (Shape{kB, kT, kH, kD}));
      for (size_t j = 0; j < sample.turned.keys.size(); ++j) {
        const auto key = static_cast<int64_t>(sample.turned.keys[j]);
        if (key < 0) continue;
        for (int64_t b = 0; b < kB; ++b)
          for (int64_t h = 0; h < kH; ++h)
            for (int64_t i = 0; i < kD; ++i) {
              double sum = 0;
              for (int64_t t = key; t < kT; ++t)
                sum += column.at({b, t, h, static_cast<int64_t>(j)}) * g.at({b, t, h, i});
              EXPECT_NEAR(dv.at({b, key, h, i}), sum, 1e-11);
            }
      }
    }
}

TEST(Dial, ExchangedKeysKeepTheirValues) {
  const OneLayer layer;
  const HostTensor before = layer.plain().values.at("blocks.1.attn.hook_pattern");
  const Interpretation after =
      layer.run({.rewrite = DialRewrite::key_exchange}, {{0, 2}, {1, 1, 0, 1}});
  const HostTensor& a = after.values.at("blocks.1.attn.hook_pattern");
  for (int64_t h : {0, 2})
    for (int64_t t = 0; t < kT; ++t) {
      const bool exchanged = h == 0 && t > 2;
      EXPECT_NEAR(a.at({1, h, t, 0}), before.at({1, h, t, exchanged ? 2 : 0}), 1e-12);
      EXPECT_NEAR(a.at({1, h, t, 1}), before.at({1, h, t, 1}), 1e-12);
      if (t < 2) continue;
      EXPECT_NEAR(a.at({1, h, t, 2}), before.at({1, h, t, exchanged ? 0 : 2}), 1e-12);
    }
}

TEST(Dial, AMultipliedColumnLeavesTheOthers) {
  const OneLayer layer;
  const Interpretation before = layer.plain();
  const Interpretation after =
      layer.run({.rewrite = DialRewrite::key_weights}, {{0}, {1, 3, 0, 1}});
  const HostTensor &a = before.values.at("blocks.1.attn.hook_pattern"),
                   &z = before.values.at("blocks.1.attn.hook_z"),
                   &more = after.values.at("blocks.1.attn.hook_z"), &v = layer.inputs.at("v");
  for (int64_t t = 0; t < kT; ++t)
    for (int64_t i = 0; i < kD; ++i) {
      const double change = t > 0 ? 2 * a.at({0, 1, t, 0}) * v.at({0, 0, 0, i}) : 0;
      EXPECT_NEAR(more.at({0, t, 1, i}), z.at({0, t, 1, i}) + change, 1e-12);
    }
  EXPECT_NEAR(after.values.at(kDialWeights).at({0, 3, 1, 0}), 3 * a.at({0, 1, 3, 0}), 1e-12);
}

TEST(Dial, AScaledTokenTakesItsNameAlong) {
  const GraphPtr model = small_llama();
  const std::string hook = "blocks.0.ln1.hook_in";
  const GraphPtr dialled = apply_dial(model, {.rewrite = DialRewrite::token_scale, .hook = hook});
  const Tensors inputs = test::random_inputs(*model, 1);
  const Interpretation before = interpret_all(*model, inputs, {hook, "blocks.0.hook_resid_mid"}),
                       after = interpret_all(*dialled, with(inputs, dialled, {{2}, {0.5}}),
                                             {hook, "blocks.0.hook_resid_pre"});
  for (int64_t t = 0; t < kT; ++t)
    EXPECT_EQ(after.values.at(hook).at({1, t, 3}),
              (t == 2 ? 0.5 : 1) * before.values.at(hook).at({1, t, 3}));
  // The stream itself is as it was.
  EXPECT_EQ(after.values.at("blocks.0.hook_resid_pre").at({1, 2, 3}),
            before.values.at(hook).at({1, 2, 3}));
}

TEST(Dial, Errors) {
  const GraphPtr model = small_llama();
  EXPECT_EQ(user_error_of([&] { apply_dial(model, {.layer = 2}); }),
            "[dial] layer 2 is asked for, but graph llama has 2 attention layers, 0 to 1.");
  EXPECT_EQ(user_error_of([&] { apply_dial(model, {.keys = 0}); }),
            "[dial] a dial over 0 keys is asked for, but it needs at least 1.");
  EXPECT_EQ(user_error_of([&] {
              apply_dial(model,
                         {.rewrite = DialRewrite::token_scale, .hook = "blocks.0.ln1.hook_inn"});
            }),
            "[dial] graph llama has no value named blocks.0.ln1.hook_inn. Did you mean "
            "blocks.0.ln1.hook_in, blocks.0.ln2.hook_in or blocks.1.ln1.hook_in?");
  EXPECT_EQ(user_error_of([&] {
              apply_dial(model,
                         {.rewrite = DialRewrite::token_scale, .hook = "blocks.0.attn.hook_q"});
            }),
            "[dial] blocks.0.attn.hook_q is f32[2,5,4,4], but a token's row is scaled in a value "
            "[B,T,D].");
  EXPECT_THAT(user_error_of([&] { apply_dial(with_stage(model, Stage::lowered), {}); }),
              testing::HasSubstr("graph llama is lowered already"));
  Builder none("none");
  none.output("y", exp(none.input("x", f32({2}))));
  const GraphPtr no_attention = none.finish();
  EXPECT_EQ(user_error_of([&] { apply_dial(no_attention, {}); }),
            "[dial] graph none has no attention. Use a model with attention.");
  Builder b("capped");
  Tensor x = b.input("x", f32({1, 4, 1, 4}));
  b.output("y", attention(x, x, x, true, 0.5, AttentionNormalizer::softmax, 30).out);
  const GraphPtr capped = b.finish();
  EXPECT_EQ(user_error_of([&] { apply_dial(capped, {}); }),
            "[dial] attention 0 caps its scores at 30, so that nothing can be added to them. Use "
            "another dial, or a model without a cap.");
  apply_dial(capped, {.rewrite = DialRewrite::key_exchange});
}

}  // namespace
}  // namespace weir
