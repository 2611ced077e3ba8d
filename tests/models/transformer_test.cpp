// Every description of a block makes the model that it says.
#include "models/transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "interpret/interpret.h"
#include "ir/verify.h"
#include "testing/error_of.h"
#include "testing/random_tensor.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr WeightNames kNames = {.embedding = "embed",
                                .positions = "positions",
                                .layer = "layers.{}.",
                                .attention_norm = "n1",
                                .q = "q",
                                .k = "k",
                                .v = "v",
                                .qkv = "qkv",
                                .q_norm = "qn",
                                .k_norm = "kn",
                                .attention_out = "o",
                                .attention_out_norm = "n1_post",
                                .mlp_norm = "n2",
                                .gate = "gate",
                                .up = "up",
                                .down = "down",
                                .mlp_out_norm = "n2_post",
                                .final_norm = "n"};

ModelConfig sizes() {
  ModelConfig config = test::tiny_model();
  config.layers = 2;
  return config;
}

std::vector<BlockDescription> all_descriptions() {
  std::vector<BlockDescription> all;
  for (NormKind norm : {NormKind::rms, NormKind::rms_plus_one, NormKind::layer})
    for (NormPlace place :
         {NormPlace::before, NormPlace::after, NormPlace::around, NormPlace::none})
      for (bool parallel : {false, true})
        for (MlpKind mlp : {MlpKind::swiglu, MlpKind::geglu, MlpKind::gelu})
          for (Positions positions : {Positions::rotary, Positions::learned})
            for (Projections projections : {Projections::separate, Projections::joint})
              for (bool bias : {false, true})
                all.push_back({.norm = norm,
                               .norm_place = place,
                               .parallel = parallel,
                               .mlp = mlp,
                               .positions = positions,
                               .projections = projections,
                               .qkv_bias = bias,
                               .attention_out_bias = bias,
                               .mlp_bias = bias,
                               .qk_norm = bias,
                               .names = kNames});
  return all;
}

double largest_difference(const HostTensor& a, const HostTensor& b) {
  double largest = 0;
  for (size_t i = 0; i < a.data.size(); ++i)
    largest = std::max(largest, std::abs(a.data[i] - b.data[i]));
  return largest;
}

HostTensor sum(const HostTensor& a, const HostTensor& b) {
  HostTensor result = a;
  for (size_t i = 0; i < a.data.size(); ++i) result.data[i] += b.data[i];
  return result;
}

TEST(Transformer, TheStreamIsWhatTheDescriptionSays) {
  for (const BlockDescription& d : all_descriptions()) {
    const Model model = build_transformer(sizes(), d, 2, 4);
    verify(*model.graph);
    for (const Parameter& parameter : model.parameters)
      EXPECT_EQ(model.graph->node(model.graph->find_input(parameter.name).value()).types[0],
                parameter.type);
    const std::string b = "blocks.1.";
    const std::vector<std::string> hooks = {
        b + "hook_resid_pre",      b + "hook_attn_out",   b + "hook_resid_mid",
        b + "hook_mlp_out",        b + "hook_resid_post", b + "ln1.hook_in",
        b + "ln1.hook_normalized", b + "ln2.hook_in",     b + "ln2.hook_normalized"};
    Tensors v =
        interpret_all(*model.graph, test::random_inputs(*model.graph, 3, -1, 1), hooks).values;
    const auto at = [&](const char* hook) -> const HostTensor& { return v.at(b + hook); };
    const HostTensor mid = sum(at("hook_resid_pre"), at("hook_attn_out"));
    const HostTensor post = sum(at("hook_resid_mid"), at("hook_mlp_out"));
    const double tolerance = 1e-12;
    if (d.norm_place == NormPlace::after) {
      // The norm reads the sum and makes the stream.
      EXPECT_LT(largest_difference(at("ln1.hook_in"), mid), tolerance);
      EXPECT_LT(largest_difference(at("hook_resid_mid"), at("ln1.hook_normalized")), tolerance);
      EXPECT_LT(largest_difference(at("ln2.hook_in"), post), tolerance);
      EXPECT_LT(largest_difference(at("hook_resid_post"), at("ln2.hook_normalized")), tolerance);
      continue;
    }
    EXPECT_LT(largest_difference(at("hook_resid_mid"), mid), tolerance);
    EXPECT_LT(largest_difference(at("hook_resid_post"), post), tolerance);
    EXPECT_LT(largest_difference(at("ln1.hook_in"), at("hook_resid_pre")), tolerance);
    EXPECT_LT(
        largest_difference(at("ln2.hook_in"), at(d.parallel ? "hook_resid_pre" : "hook_resid_mid")),
        tolerance);
    EXPECT_GT(largest_difference(at("hook_resid_pre"), at("hook_resid_mid")), 1e-3);
    EXPECT_EQ(largest_difference(at("ln1.hook_in"), at("ln1.hook_normalized")) == 0,
              d.norm_place == NormPlace::none);
    const bool sandwich = d.norm_place == NormPlace::around;
    EXPECT_EQ(model.graph->find(b + "ln1_post.hook_normalized").has_value(), sandwich);
    if (sandwich) {
      EXPECT_EQ(*model.graph->find(b + "ln2_post.hook_normalized"),
                *model.graph->find(b + "hook_mlp_out"));
    }
  }
}

TEST(Transformer, WhatABlockLacksIsNoWeight) {
  const auto names_of = [](const BlockDescription& d) {
    std::set<std::string> names;
    for (const Parameter& p : build_transformer(sizes(), d, 1, 4).parameters) names.insert(p.name);
    return names;
  };
  const auto plain = names_of({.mlp = MlpKind::gelu, .names = kNames});
  for (const char* name : {"layers.0.gate.weight", "layers.0.qkv.weight", "layers.0.q.bias",
                           "layers.0.qn.weight", "layers.0.n1_post.weight", "positions.weight"})
    EXPECT_FALSE(plain.contains(name)) << name;
  const auto joint = names_of({.norm = NormKind::layer,
                               .norm_place = NormPlace::around,
                               .positions = Positions::learned,
                               .projections = Projections::joint,
                               .qkv_bias = true,
                               .names = kNames});
  for (const char* name : {"layers.1.gate.weight", "layers.1.qkv.bias", "layers.1.n2_post.bias",
                           "positions.weight", "n.bias", "layers.0.n1.bias"})
    EXPECT_TRUE(joint.contains(name)) << name;
  EXPECT_FALSE(joint.contains("layers.1.q.weight"));
}

TEST(Transformer, GainsOfOneAndMoreStartAtZeroAndTheEmbeddingIsScaled) {
  const Model model = build_transformer(
      sizes(),
      {.norm = NormKind::rms_plus_one, .qk_norm = true, .scaled_embedding = true, .names = kNames},
      1, 4);
  int gains = 0;
  for (const Parameter& parameter : model.parameters)
    if (parameter.type.rank() == 1) {
      EXPECT_EQ(parameter.initial, Initial::zeros) << parameter.name;
      ++gains;
    }
  EXPECT_EQ(gains, 2 * 4 + 1);
  const Tensors inputs = test::random_inputs(*model.graph, 3, -1, 1);
  const HostTensor embed =
      interpret_all(*model.graph, inputs, {"hook_embed"}).values.at("hook_embed");
  const auto token = static_cast<int64_t>(inputs.at("tokens").data[1]);
  EXPECT_NEAR(
      embed.at({0, 1, 3}),
      std::sqrt(static_cast<double>(sizes().d_model)) * inputs.at("embed.weight").at({token, 3}),
      1e-12);
}

TEST(Transformer, WithoutNormsOneStaysBehindTheLastBlock) {
  const Model model =
      build_transformer(sizes(), {.norm_place = NormPlace::none, .names = kNames}, 1, 4);
  int norms = 0;
  for (const Node& node : model.graph->nodes()) norms += node.op == Op::rms_norm;
  EXPECT_EQ(norms, 1);
  for (const Parameter& parameter : model.parameters)
    if (parameter.type.rank() == 1) {
      EXPECT_EQ(parameter.name, "n.weight");
    }
}

// sigmoid(W_up silu(W_down y)) y behind every norm, by hand.
TEST(Transformer, AGateBehindEveryNorm) {
  const BlockDescription d{.norm_place = NormPlace::around, .norm_gate_rank = 3, .names = kNames};
  const Model model = build_transformer(sizes(), d, 1, 4);
  int64_t gates = 0;
  for (const Parameter& parameter : model.parameters) {
    if (!parameter.name.ends_with("gate_down.weight")) continue;
    EXPECT_EQ(parameter.type, f32({3, sizes().d_model}));
    EXPECT_TRUE(parameter.decay);
    ++gates;
  }
  EXPECT_EQ(gates, 4 * 2 + 1);
  const std::string ln = "blocks.1.ln1.";
  const Tensors inputs = test::random_inputs(*model.graph, 3, -1, 1);
  const Tensors v =
      interpret_all(*model.graph, inputs,
                    {ln + "hook_in", ln + "hook_scale", ln + "hook_gate", ln + "hook_normalized",
                     "ln_final.hook_gate", "blocks.0.ln2_post.hook_gate"})
          .values;
  const auto width = static_cast<size_t>(sizes().d_model);
  const auto& down = inputs.at("layers.1.n1.gate_down.weight").data;
  const auto& up = inputs.at("layers.1.n1.gate_up.weight").data;
  for (size_t t = 0; t < 4; ++t) {
    std::vector<double> y(width), inner(3);
    for (size_t i = 0; i < width; ++i)
      y[i] = v.at(ln + "hook_in").data[t * width + i] / v.at(ln + "hook_scale").data[t] *
             inputs.at("layers.1.n1.weight").data[i];
    for (size_t r = 0; r < 3; ++r) {
      double sum = 0;
      for (size_t i = 0; i < width; ++i) sum += down[r * width + i] * y[i];
      inner[r] = sum / (1 + std::exp(-sum));
    }
    for (size_t i = 0; i < width; ++i) {
      double sum = 0;
      for (size_t r = 0; r < 3; ++r) sum += up[i * 3 + r] * inner[r];
      const double gate = 1 / (1 + std::exp(-sum));
      EXPECT_NEAR(v.at(ln + "hook_gate").data[t * width + i], gate, 1e-12);
      EXPECT_NEAR(v.at(ln + "hook_normalized").data[t * width + i], gate * y[i], 1e-12);
    }
  }
}

TEST(Transformer, SoftCapsBoundScoresAndLogits) {
  ModelConfig config = sizes();
  config.score_cap = 0.01;
  config.logit_cap = 0.02;
  const Model model = build_transformer(config, {.names = kNames}, 1, 4);
  const Tensors v = interpret_all(*model.graph, test::random_inputs(*model.graph, 3, -1, 1),
                                  {"blocks.0.attn.hook_attn_scores", "hook_logits"})
                        .values;
  for (double score : v.at("blocks.0.attn.hook_attn_scores").data)
    EXPECT_TRUE(std::isinf(score) || std::abs(score) <= 0.01) << score;
  for (double logit : v.at("hook_logits").data) EXPECT_LE(std::abs(logit), 0.02);
}

TEST(Transformer, LearnedPositionsEnd) {
  ModelConfig config = sizes();
  config.context = 4;
  const BlockDescription d{.positions = Positions::learned, .names = kNames};
  EXPECT_THAT(test::error_of([&] { build_transformer(config, d, 1, 5); }),
              HasSubstr("5 tokens are asked for"));
  config.context = 5;
  EXPECT_EQ(build_transformer(config, d, 1, 5).parameters[1].type, f32({5, config.d_model}));
}

}  // namespace
}  // namespace weir
