#include "passes/probes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "interpret/interpret.h"
#include "ir/builder.h"
#include "ir/print.h"
#include "models/llama.h"
#include "passes/autodiff.h"
#include "passes/pipeline.h"
#include "support/error.h"
#include "testing/error_of.h"
#include "testing/expect_close.h"
#include "testing/random_tensor.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using test::close;
using test::error_of;
using test::random_inputs;
using ::testing::HasSubstr;

GraphPtr small_llama() { return build_llama(test::tiny_model(), 3, 5).graph; }

std::vector<std::string> weights_of(const Graph& graph) {
  std::vector<std::string> names;
  for (int32_t id : graph.inputs())
    if (graph.node(id).attrs.get_bool("state")) names.push_back(graph.input_name(id));
  return names;
}

std::vector<ResolvedProbe> resolved(const GraphPtr& graph, const std::vector<std::string>& texts) {
  return resolve_probes(graph, parse_probe_requests(texts));
}

// What the probes of `texts` see on random inputs, with the outputs and the named values.
Interpretation run(const GraphPtr& built, const std::vector<std::string>& texts,
                   const std::vector<std::string>& values) {
  std::vector<ResolvedProbe> probes = resolved(built, texts);
  GraphPtr graph =
      differentiate(built, {.wrt = weights_of(*built), .named = probed_gradients(built, probes)});
  return interpret_all(*insert_probes(graph, probes), random_inputs(*built, 7, -1, 1), values);
}

TEST(ProbeRequest, IsReadInItsCanonicalForm) {
  ProbeRequest r = parse_probe_request(
      " blocks.*.attn.hook_v.grad : sum( batch ), norm(feature),mean(head), select(token=0..15) ");
  EXPECT_EQ(r.glob, "blocks.*.attn.hook_v");
  EXPECT_TRUE(r.gradient);
  std::vector<std::string> texts;
  for (const ProbeReduction& reduction : r.reductions) texts.push_back(to_string(reduction));
  EXPECT_EQ(texts, (std::vector<std::string>{"batch_sum", "norm(feature)", "mean(head)",
                                             "slice(token,0,16)"}));
  EXPECT_TRUE(parse_probe_request("hook_embed").reductions.empty());
  EXPECT_TRUE(parse_probe_request("hook_embed : raw").reductions.empty());
}

TEST(ProbeRequest, SaysEverythingThatIsWrong) {
  std::string text = error_of([] {
    parse_probe_requests({"a : entrpy", ": sum(batch)", "b : mean", "c : abs(batch)",
                          "d : slice(token,4,2)", "e : select(token)", "f : sum(batch"});
  });
  EXPECT_THAT(text, HasSubstr("[probe] 7 problems:"));
  EXPECT_THAT(text, HasSubstr("in 'a : entrpy': unknown reduction 'entrpy'. Known: "
                              "batch_sum, sum(axes)"));
  EXPECT_THAT(text, HasSubstr("Did you mean entropy?"));
  EXPECT_THAT(text, HasSubstr("': sum(batch)' names no hook. A request reads GLOB[.grad] : "));
  EXPECT_THAT(text, HasSubstr("'mean' names no axes; give them as in mean(feature)."));
  EXPECT_THAT(text, HasSubstr("abs takes no arguments, but 'abs(batch)' is given."));
  EXPECT_THAT(text, HasSubstr("'slice(token,4,2)' is not of the form slice(axis,start,limit)"));
  EXPECT_THAT(text, HasSubstr("'select(token)' is not of the form select(axis=i)"));
  EXPECT_THAT(text, HasSubstr("'sum(batch' does not end with a closing parenthesis."));
}

TEST(Probes, HooksAreListedWithShapeAndGradient) {
  std::vector<Hook> hooks = list_hooks(small_llama());
  auto find = [&](const std::string& name) {
    for (const Hook& hook : hooks)
      if (hook.name == name) return hook;
    return Hook{};
  };
  EXPECT_EQ(find("blocks.1.attn.hook_v").type, f32({3, 5, 2, 2}));
  EXPECT_TRUE(find("blocks.1.attn.hook_v").has_gradient);
  EXPECT_EQ(find("blocks.0.attn.hook_pattern").axes,
            (std::vector<std::string>{"batch", "head", "query", "key"}));
  EXPECT_TRUE(find("blocks.0.attn.hook_pattern").has_gradient);
  EXPECT_TRUE(find("blocks.1.attn.hook_attn_scores").has_gradient);
  EXPECT_EQ(find("blocks.1.attn.hook_attn_scores").axes,
            (std::vector<std::string>{"batch", "head", "query", "key"}));
  EXPECT_FALSE(find("blocks.0.attn.hook_lse").has_gradient);
  EXPECT_EQ(find("blocks.0.attn.hook_lse").axes,
            (std::vector<std::string>{"batch", "head", "query"}));
  EXPECT_TRUE(find("model.norm.weight").has_gradient);
}

TEST(Probes, WeightsThatAModelComputesItselfHaveTheAxesOfAPattern) {
  Builder b("g");
  Tensor x = b.input("x", f32({2, 3, 4, 5}));
  Tensor scores = exp(x).named("attn.hook_attn_scores");
  Tensor pattern = softmax(scores).named("attn.hook_pattern");
  b.output("y", exp(pattern).named("attn.hook_z"));
  std::vector<Hook> hooks = list_hooks(b.finish());
  ASSERT_EQ(hooks.size(), 3);
  const std::vector<std::string> axes = {"batch", "head", "query", "key"};
  EXPECT_EQ(hooks[0].axes, axes);
  EXPECT_EQ(hooks[1].axes, axes);
  EXPECT_EQ(hooks[2].axes, (std::vector<std::string>{"batch", "token", "head", "feature"}));
}

// Masked scores [B,H,T,S] to weights by the formulas of ir/normalizers.def, as they stand there.
Tensor weights_by_hand(Builder& b, const Tensor& scores, const Tensor& other,
                       AttentionNormalizer normalizer) {
  const Shape shape = scores.type().shape;
  Tensor keys = convert(b.iota(2, i32({1, 1, shape[2], 1})), DType::f32) + 1;
  switch (normalizer) {
    case AttentionNormalizer::softmax:
      return softmax(scores);
    case AttentionNormalizer::softmax_1: {
      Tensor zero = b.constant(0, f32({shape[0], shape[1], shape[2], 1}));
      return slice(softmax(concat({scores, zero}, 3)), {0, 0, 0, 0}, shape);
    }
    case AttentionNormalizer::softpick: {
      Tensor visible = gt(scores, b.constant(-std::numeric_limits<double>::infinity()));
      Tensor excess = select(visible, exp(scores) - 1, b.constant(0));
      return relu(excess) / (reduce_sum(abs(excess), {3}) + 1e-8);
    }
    case AttentionNormalizer::relu:
      return relu(scores) / keys;
    case AttentionNormalizer::sigmoid:
      return sigmoid(scores - log(keys));
    case AttentionNormalizer::bayes_softmax:  // in attention_rewrites_test.cpp
      break;
    case AttentionNormalizer::sink_logit:
    case AttentionNormalizer::kv_bias: {
      Tensor column = reshape(other, {shape[0], shape[1], shape[2], 1});
      return slice(softmax(concat({scores, column}, 3)), {0, 0, 0, 0}, shape);
    }
  }
  internal_error_at("not a normaliser of one head");
}

// One attention of two query heads a key head, by its node or written out in primitives, where
// gradients of scores and weights lie on the way to the loss.
GraphPtr attention_graph(bool by_hand, AttentionNormalizer normalizer) {
  constexpr int64_t B = 2, T = 4, H = 4, G = 2, d = 3;
  Builder b("attention");
  Tensor q = b.input("q", f32({B, T, H, d})), k = b.input("k", f32({B, T, G, d})),
         v = b.input("v", f32({B, T, G, d})), weights = b.input("weights", f32({B, T, H, d})),
         other = b.input("other", f32({B, H, T}));
  Tensor z;
  if (by_hand) {
    // [B,T,H,d] as [B,G,H/G,T,d], keys and values of a head repeated for its group.
    const auto queries = [&](const Tensor& x) {
      return reshape(transpose(x, {0, 2, 1, 3}), {B, H, T, d});
    };
    const auto keys = [&](const Tensor& x) {
      Tensor y = reshape(transpose(x, {0, 2, 1, 3}), {B, G, 1, T, d});
      return reshape(concat({y, y}, 2), {B, H, T, d});
    };
    Tensor scores = matmul(queries(q), keys(k), {.transpose_b = true}) * 0.5;
    Tensor visible = ge(b.iota(2, i32({1, 1, T, 1})), b.iota(3, i32({1, 1, 1, T})));
    scores = select(visible, scores, b.constant(-std::numeric_limits<double>::infinity()));
    scores.named("hook_attn_scores");
    const Tensor pattern = weights_by_hand(b, scores, other, normalizer);
    z = transpose(matmul(pattern.named("hook_pattern"), keys(v)), {0, 2, 1, 3});
  } else {
    auto [out, rows] = takes_other_score(normalizer)
                           ? attention(q, k, v, other, true, 0.5, normalizer)
                           : attention(q, k, v, true, 0.5, normalizer);
    attention_scores(q, k, true, 0.5).named("hook_attn_scores");
    attention_pattern(q, k, rows, true, 0.5, normalizer).named("hook_pattern");
    z = out;
  }
  Tensor y = z * z * weights;
  b.output("loss", reshape(reduce_sum(y, {0, 1, 2, 3}), {}));
  return b.finish();
}

TEST(Probes, GradientsOfScoresAndPatternAreThoseOfAttentionWrittenOut) {
  for (AttentionNormalizer normalizer : head_normalizers()) {
    const std::vector<std::string> texts = {"hook_attn_scores.grad", "hook_pattern.grad",
                                            "hook_attn_scores", "hook_pattern"};
    const Tensors want = run(attention_graph(true, normalizer), texts, {}).probes,
                  got = run(attention_graph(false, normalizer), texts, {}).probes;
    ASSERT_EQ(want.size(), 4);
    EXPECT_TRUE(close(got, want, {.relative = 1e-11, .absolute = 1e-14}));
    // Scores of hidden keys have no gradient, their weights have one if the head gives anything.
    EXPECT_EQ(want.at("hook_attn_scores.grad:raw").at({0, 1, 0, 3}), 0);
    EXPECT_EQ(want.at("hook_pattern.grad:raw").at({0, 1, 0, 3}) != 0,
              want.at("hook_pattern:raw").at({0, 1, 0, 0}) != 0);
    // The first query sees one key: under softmax nothing changes its weight.
    if (normalizer == AttentionNormalizer::softmax) {
      EXPECT_EQ(got.at("hook_attn_scores.grad:raw").at({1, 2, 0, 0}), 0);
    }
  }
}

TEST(Probes, GradientsOfScoresOfChosenHeadsAreComputedAlone) {
  const GraphPtr built = attention_graph(false, AttentionNormalizer::softmax);
  const std::vector<std::string> texts = {"hook_attn_scores.grad",
                                          "hook_attn_scores.grad : slice(head,1,2)",
                                          "hook_pattern.grad : slice(head,2,4), norm(key)",
                                          "hook_pattern.grad : select(batch=1), select(head=3)"};
  const Tensors probes = run(built, texts, {}).probes;
  const HostTensor &all = probes.at("hook_attn_scores.grad:raw"),
                   &one = probes.at("hook_attn_scores.grad:slice(head,1,2)");
  EXPECT_EQ(one.type, f32({2, 1, 4, 4}));
  EXPECT_EQ(one.at({1, 0, 3, 2}), all.at({1, 1, 3, 2}));
  // With one head asked for, no array of all heads is in the program.
  const auto resolved_one = resolved(built, {texts[3]});
  const GraphPtr graph = insert_probes(
      differentiate(built, {.named = probed_gradients(built, resolved_one)}), resolved_one);
  CompileOptions options;
  const GraphPtr planned = run_pipeline(graph, options).graph;
  for (const Node& node : planned->nodes())
    for (const Type& type : node.types)
      EXPECT_LT(type.elements(), 2 * 4 * 4 * 4) << to_string(type);
}

TEST(Probes, GradientsOfScoresNeedAnAttentionThatTheLossDependsOn) {
  Builder b("g");
  Tensor q = b.input("q", f32({1, 3, 1, 2}));
  auto [z, rows] = attention(q, q, q, true, 1);
  attention_scores(q, q, true, 1).named("hook_attn_scores");
  b.output("z", z);
  b.output("loss", reshape(reduce_sum(q, {0, 1, 2, 3}), {}));
  EXPECT_THAT(error_of([&] { resolved(b.finish(), {"hook_attn_scores.grad"}); }),
              HasSubstr("hook_attn_scores has no gradient in this program"));
}

// Weights that a model computes itself have the statistics that the kernels have.
TEST(Probes, StatisticsOfWeightsThatAModelComputesItself) {
  const std::vector<std::string> requests = {
      "hook_pattern : column_mass",    "hook_pattern : column_square, mean(batch)",
      "hook_pattern : entropy",        "hook_pattern : row_max",
      "hook_pattern : sink_column(2)", "hook_pattern : row_sum, mean(query)"};
  for (AttentionNormalizer normalizer : head_normalizers()) {
    Tensors values[2];
    for (bool by_hand : {true, false}) {
      const GraphPtr graph = attention_graph(by_hand, normalizer);
      const GraphPtr probed =
          insert_probes(with_stage(graph, Stage::differentiated), resolved(graph, requests));
      values[by_hand] = interpret_all(*probed, test::random_inputs(*probed, 5, -2, 2)).probes;
    }
    ASSERT_EQ(values[0].size(), requests.size());
    for (const auto& [id, value] : values[0]) {
      ASSERT_TRUE(values[1].contains(id)) << id;
      EXPECT_EQ(value.shape(), values[1].at(id).shape()) << id;
      for (size_t i = 0; i < value.data.size(); ++i)
        EXPECT_NEAR(value.data[i], values[1].at(id).data[i], 1e-12)
            << id << " of " << normalizer_name(normalizer);
    }
  }
}

TEST(Probes, AStatisticIsOfWeightsAndComesFirst) {
  const GraphPtr graph = attention_graph(true, AttentionNormalizer::softmax);
  const std::string text = error_of([&] {
    resolved(graph, {"hook_attn_scores : column_mass", "hook_pattern.grad : entropy",
                     "hook_pattern : sum(query), row_max"});
  });
  EXPECT_THAT(text, HasSubstr("hook_attn_scores f32[2,4,4,4]: column_mass: is a statistic of "
                              "attention weights"));
  EXPECT_THAT(text, HasSubstr("entropy: is a statistic of attention weights"));
  EXPECT_THAT(text, HasSubstr("row_max: is a statistic of a whole attention pattern and comes "
                              "first."));
}

TEST(Probes, GlobsResolveToUniqueIds) {
  auto probes = resolved(small_llama(),
                         {"blocks.*.attn.hook_v.grad : batch_sum, norm(feature)",
                          "blocks.0.attn.hook_v.grad : sum(batch), norm(feature)", "hook_embed"});
  std::vector<std::string> ids;
  for (const ResolvedProbe& probe : probes) ids.push_back(probe.id);
  EXPECT_EQ(ids, (std::vector<std::string>{"blocks.0.attn.hook_v.grad:batch_sum,norm(feature)",
                                           "blocks.1.attn.hook_v.grad:batch_sum,norm(feature)",
                                           "hook_embed:raw"}));
  EXPECT_EQ(probes[0].batch_step, 0);
  EXPECT_EQ(probes[2].batch_step, -1);
}

TEST(Probes, ListsEveryRequestThatDoesNotFit) {
  GraphPtr graph = small_llama();
  std::string text = error_of([&] {
    resolved(graph, {"blocks.0.atn.hook_v", "blocks.*.hook_resid_pre : norm(head)",
                     "blocks.0.attn.hook_lse.grad", "blocks.0.attn.hook_q : entropy",
                     "hook_embed : slice(token,2,9)", "hook_embed : sum(batch), sum(token,token)"});
  });
  EXPECT_THAT(text, HasSubstr("[probe] 6 problems:"));
  EXPECT_THAT(text, HasSubstr("'blocks.0.atn.hook_v' matches no hook. Did you mean "));
  EXPECT_THAT(text, HasSubstr("blocks.0.attn.hook_v"));
  EXPECT_THAT(text, HasSubstr("'blocks.*.hook_resid_pre : norm(head)' does not fit "
                              "blocks.0.hook_resid_pre f32[3,5,8]: norm(head): there is no axis "
                              "head; the axes are batch, token, feature (and 1 more hooks)."));
  EXPECT_THAT(text, HasSubstr("blocks.0.attn.hook_lse has no gradient in this program"));
  EXPECT_THAT(text, HasSubstr("entropy: is a statistic of attention weights, an array of batch, "
                              "head, query and key, but the axes here are batch, token, head, "
                              "feature."));
  EXPECT_THAT(error_of([&] { resolved(graph, {"hook_embed : map(4)"}); }),
              HasSubstr("map(4): is a map of the attention weights of an attention node "
                        "(hook_pattern), which this is not."));
  EXPECT_THAT(
      error_of([&] { resolved(graph, {"blocks.0.attn.hook_pattern : sum(query), map(4)"}); }),
      HasSubstr("map(4): comes first, or after slices of the batch and of one head"));
  // A gradient has the axes of the weights, and is none.
  for (const char* statistic : {"column_mass", "entropy", "row_sum", "sink_column(0)"})
    EXPECT_THAT(error_of([&] {
                  resolved(graph, {std::string("blocks.0.attn.hook_pattern.grad : ") + statistic});
                }),
                AllOf(HasSubstr("does not fit blocks.0.attn.hook_pattern.grad f32["),
                      HasSubstr(": is a statistic of attention weights, and this is their "
                                "gradient, which takes sum(axes)")));
  EXPECT_THAT(error_of([&] { resolved(graph, {"blocks.0.attn.hook_pattern.grad : map(4)"}); }),
              HasSubstr("map(4): is a map of attention weights, and this is their gradient."));
  EXPECT_THAT(error_of([&] { resolved(graph, {"blocks.0.attn.hook_pattern : map"}); }),
              HasSubstr("'map' needs the most cells of a side, 1 to 256, as in map(256)."));
  EXPECT_THAT(error_of([&] { resolved(graph, {"blocks.0.attn.hook_pattern : map(257)"}); }),
              HasSubstr("'map(257)' needs the most cells of a side, 1 to 256"));
  EXPECT_EQ(error_of([&] { resolved(graph, {"blocks.0.attn.hook_pattern : map(256)"}); }),
            "no error");
  EXPECT_THAT(text, HasSubstr("slice(token,2,9): axis token has 5 elements"));
  EXPECT_THAT(text, HasSubstr("an axis is named twice"));
}

TEST(Probes, AValueThatIsGoneIsAnError) {
  GraphPtr built = small_llama();
  auto probes = resolved(built, {"blocks.0.attn.hook_pattern : entropy"});
  GraphPtr graph = differentiate(built, {.wrt = weights_of(*built)});
  EXPECT_EQ(
      error_of([&] { insert_probes(live_graph(graph, false), probes); }),
      "[probe] blocks.0.attn.hook_pattern:entropy: blocks.0.attn.hook_pattern is no longer in "
      "the program.");
}

TEST(Probes, ReductionsHaveTheirPlainMeaning) {
  const std::string v = "blocks.1.attn.hook_v";
  Interpretation seen =
      run(small_llama(),
          {v + " : raw", v + ".grad : batch_sum, norm(feature), mean(head)",
           v + " : square, max(token,head)", v + " : abs, min(feature), select(token=1..2)"},
          {v, v + ".grad"});
  const HostTensor &x = seen.values.at(v), &g = seen.values.at(v + ".grad");
  EXPECT_EQ(seen.probes.at(v + ":raw"), x);
  const HostTensor& norm = seen.probes.at(v + ".grad:batch_sum,norm(feature),mean(head)");
  ASSERT_EQ(norm.type, f32({1, 5, 1, 1}));
  const HostTensor& largest = seen.probes.at(v + ":square,max(token,head)");
  ASSERT_EQ(largest.type, f32({3, 1, 1, 2}));
  const HostTensor& least = seen.probes.at(v + ":abs,min(feature),slice(token,1,3)");
  ASSERT_EQ(least.type, f32({3, 2, 2, 1}));
  bool any = false;
  for (int64_t t = 0; t < 5; ++t) {
    double mean = 0;
    for (int64_t h = 0; h < 2; ++h) {
      double squares = 0;
      for (int64_t d = 0; d < 2; ++d) {
        double sum = g.at({0, t, h, d}) + g.at({1, t, h, d}) + g.at({2, t, h, d});
        squares += sum * sum;
      }
      mean += std::sqrt(squares) / 2;
    }
    EXPECT_NEAR(norm.at({0, t, 0, 0}), mean, 1e-14 + 1e-12 * mean);
    any |= mean > 0;
  }
  EXPECT_TRUE(any);
  for (int64_t b = 0; b < 3; ++b)
    for (int64_t d = 0; d < 2; ++d) {
      double maximum = 0;
      for (int64_t t = 0; t < 5; ++t)
        for (int64_t h = 0; h < 2; ++h)
          maximum = std::max(maximum, x.at({b, t, h, d}) * x.at({b, t, h, d}));
      EXPECT_EQ(largest.at({b, 0, 0, d}), maximum);
      EXPECT_EQ(least.at({b, 1, d, 0}),
                std::min(std::abs(x.at({b, 2, d, 0})), std::abs(x.at({b, 2, d, 1}))));
    }
}

TEST(Probes, PatternStatisticsEqualThoseOfThePattern) {
  const std::string p = "blocks.0.attn.hook_pattern";
  GraphPtr built = small_llama();
  Interpretation seen = run(built,
                            {p + " : column_mass", p + " : column_square", p + " : entropy",
                             p + " : sink_column(1), slice(query,1,4), mean(query)",
                             p + " : row_max", p + " : select(head=3), select(batch=2)"},
                            {p});
  const HostTensor& a = seen.values.at(p);
  for (int64_t b = 0; b < 3; ++b)
    for (int64_t h = 0; h < 4; ++h) {
      double sink = 0;
      for (int64_t s = 0; s < 5; ++s) {
        double mass = 0, square = 0, entropy = 0, largest = 0;
        for (int64_t t = 0; t < 5; ++t) {
          mass += a.at({b, h, t, s});
          square += a.at({b, h, t, s}) * a.at({b, h, t, s});
          double w = a.at({b, h, s, t});
          entropy -= w > 0 ? w * std::log(w) : 0;
          largest = std::max(largest, w);
        }
        EXPECT_NEAR(seen.probes.at(p + ":column_mass").at({b, h, s}), mass, 1e-12);
        EXPECT_NEAR(seen.probes.at(p + ":column_square").at({b, h, s}), square, 1e-12);
        EXPECT_NEAR(seen.probes.at(p + ":entropy").at({b, h, s}), entropy, 1e-12);
        EXPECT_NEAR(seen.probes.at(p + ":row_max").at({b, h, s}), largest, 1e-12);
        if (s >= 1 && s < 4) sink += a.at({b, h, s, 1}) / 3;
      }
      EXPECT_NEAR(seen.probes.at(p + ":sink_column(1),slice(query,1,4),mean(query)").at({b, h, 0}),
                  sink, 1e-12);
    }
  const HostTensor& map = seen.probes.at(p + ":slice(head,3,4),slice(batch,2,3)");
  ASSERT_EQ(map.type, f32({1, 1, 5, 5}));
  for (int64_t t = 0; t < 5; ++t)
    for (int64_t s = 0; s < 5; ++s) EXPECT_EQ(map.at({0, 0, t, s}), a.at({2, 3, t, s}));
}

// One attention_stats node gives all statistics of a layer, and no pattern is computed for them.
TEST(Probes, PatternStatisticsNeverNeedThePattern) {
  GraphPtr built = small_llama();
  auto probes = resolved(built, {"blocks.*.attn.hook_pattern : column_mass",
                                 "blocks.*.attn.hook_pattern : sink_column(2)",
                                 "blocks.*.attn.hook_pattern : entropy"});
  GraphPtr graph = insert_probes(differentiate(built, {.wrt = weights_of(*built)}), probes);
  int64_t patterns = 0, statistics = 0;
  const GraphPtr live = live_graph(graph, false);
  for (const Node& node : live->nodes()) {
    patterns += node.op == Op::attention_pattern;
    statistics += node.op == Op::attention_stats;
  }
  EXPECT_EQ(patterns, 0);
  EXPECT_EQ(statistics, 2);
}

TEST(Probes, LeaveTheRestUntouched) {
  GraphPtr built = small_llama();
  std::vector<ResolvedProbe> probes =
      resolved(built, {"blocks.*.hook_resid_*", "blocks.*.attn.hook_{q,k,v}.grad : batch_sum",
                       "blocks.*.attn.hook_pattern : entropy, mean(batch)",
                       "blocks.*.ln1.hook_scale", "blocks.*.ln?.hook_in.grad : norm(feature)"});
  GraphPtr plain = differentiate(built, {.wrt = weights_of(*built)});
  GraphPtr wanted =
      differentiate(built, {.wrt = weights_of(*built), .named = probed_gradients(built, probes)});
  EXPECT_EQ(*plain, *wanted);
  GraphPtr probed = insert_probes(wanted, probes);
  std::string before = print_graph(*plain), after = print_graph(*probed);
  before = before.substr(before.find('\n'), before.rfind("  return") - before.find('\n'));
  EXPECT_TRUE(after.substr(after.find('\n')).starts_with(before));
  EXPECT_EQ(insert_probes(plain, {})->nodes().size(), plain->nodes().size());
  Tensors inputs = random_inputs(*built, 11, -1, 1);
  EXPECT_EQ(interpret(*plain, inputs), interpret(*probed, inputs));
}

// From text to planned kernels: what the program returns is the same to the bit, and the probes see
// what they see before anything is lowered.
TEST(Probes, PassThroughThePipeline) {
  GraphPtr built = small_llama();
  const std::vector<std::string> texts = {
      "blocks.*.attn.hook_v.grad : batch_sum, norm(feature), mean(head)",
      "blocks.*.attn.hook_pattern : column_mass, mean(batch)", "blocks.*.hook_resid_post",
      "blocks.*.ln1.hook_in.grad : norm(batch,feature)", "model.norm.weight : max(axis0)"};
  Interpretation expected = run(built, texts, {});
  Tensors inputs = random_inputs(*built, 7, -1, 1);
  for (Stage stage : {Stage::instrumented, Stage::lowered, Stage::planned}) {
    CompileOptions options{.gradients = weights_of(*built), .stop = stage};
    Tensors plain = interpret(*run_pipeline(built, options).graph, inputs);
    options.probes = texts;
    Interpretation probed = interpret_all(*run_pipeline(built, options).graph, inputs);
    EXPECT_EQ(plain, probed.outputs) << stage_name(stage);
    EXPECT_EQ(probed.probes.size(), 9u);
    EXPECT_TRUE(close(probed.probes, expected.probes, {1e-10, 1e-14})) << stage_name(stage);
  }
}

TEST(Probes, GradientsThatTheProgramDoesNotHaveAreAnError) {
  CompileOptions options{.probes = {"hook_embed.grad"}};
  EXPECT_EQ(error_of([&] { run_pipeline(small_llama(), options); }),
            "[probe] 'hook_embed.grad': hook_embed has no gradient in this program: nothing "
            "differentiates the loss by it. Ask for the value itself, or for gradients of the "
            "program.");
}

}  // namespace
}  // namespace weir
