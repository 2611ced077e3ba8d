// Normalisers with weights of their own, gates and QK-norm: each alone and together, by their
// formulas, by finite differences, and through all passes.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <tuple>

#include "ir/edit.h"
#include "ir/rewrite_state.h"
#include "models/llama.h"
#include "passes/attention_gate.h"
#include "passes/attention_normalizer.h"
#include "passes/autodiff.h"
#include "passes/decompose.h"
#include "passes/pass_test_util.h"
#include "passes/pipeline.h"
#include "passes/qk_norm.h"
#include "testing/finite_difference.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using enum AttentionNormalizer;
using testing::ElementsAre;
using testing::HasSubstr;

GraphPtr small_llama(int64_t layers = 2) {
  ModelConfig config = test::small_model(layers);
  config.d_head = 6;  // the heads together are wider than the model
  return build_llama(config, 2, 5).graph;
}

std::vector<std::string> added_names(const Graph& before, const Graph& after) {
  std::vector<std::string> names;
  for (const AddedState& state : added_states(before, after))
    names.push_back(state.name + " " + to_string(state.type));
  return names;
}

struct Changes {
  AttentionNormalizer normalizer;
  AttentionGate gate;
  bool qk_norm;
};

Rewrites rewrites_of(const Changes& c) {
  Rewrites rewrites;
  rewrites.attention = c.normalizer;
  rewrites.attention_gate = c.gate;
  rewrites.qk_norm = c.qk_norm;
  return rewrites;
}

class AttentionRewrites : public testing::TestWithParam<Changes> {};

TEST_P(AttentionRewrites, MatchFiniteDifferences) {
  const GraphPtr built = apply_rewrites(small_llama(1), rewrites_of(GetParam()));
  std::vector<std::string> weights;
  std::map<std::string, std::string> gradients;
  for (int32_t id : built->inputs())
    if (built->node(id).attrs.get_bool("state")) {
      weights.push_back(built->input_name(id));
      gradients[weights.back()] = gradient_output(weights.back());
    }
  const GraphPtr graph = differentiate(built, {.wrt = weights});
  const Tensors inputs = test::random_inputs(*built, 3, -0.8, 0.8);
  EXPECT_TRUE(test::gradients_match(
      *graph, inputs, gradients,
      {.step = 1e-5, .tolerance = {.relative = 1e-6, .absolute = 1e-9}, .elements = 12}));
}

// Through autodiff, fusion and planning, with statistics in the backward kernel; and with all
// composites decomposed.
TEST_P(AttentionRewrites, KeepTheirMeaningInEveryPass) {
  const GraphPtr model = small_llama();
  CompileOptions options{
      .gradients = {"*"},
      .probes = {"blocks.*.attn.hook_pattern : row_sum", "blocks.*.attn.hook_pattern : column_mass",
                 "blocks.0.attn.hook_pattern : entropy", "blocks.0.attn.hook_pattern : map(3)",
                 "blocks.0.attn.hook_pattern.grad : norm(key)",
                 "blocks.1.attn.hook_z.grad : norm(feature)"},
      .rewrites = rewrites_of(GetParam())};
  options.stop = Stage::instrumented;
  options.decompose = DecomposeMode::none;
  const GraphPtr instrumented = run_pipeline(model, options).graph;
  options.decompose = DecomposeMode::lower;
  options.stop = Stage::planned;
  const GraphPtr planned = run_pipeline(model, options).graph;
  const Tensors inputs = test::random_inputs(*instrumented, 5, -1, 1);
  const Interpretation expected = interpret_all(*instrumented, inputs);
  for (const GraphPtr& graph : {planned, decompose(instrumented, DecomposeMode::all)}) {
    const Interpretation got = interpret_all(*graph, inputs);
    EXPECT_TRUE(test::close(got.outputs, expected.outputs, {1e-9, 1e-12}));
    EXPECT_TRUE(test::close(got.probes, expected.probes, {1e-9, 1e-12}));
  }
}

std::vector<Changes> changes() {
  std::vector<Changes> all;
  for (AttentionNormalizer normalizer : all_normalizers()) {
    all.push_back({normalizer, AttentionGate::none, false});
    all.push_back({normalizer, AttentionGate::head, true});
    all.push_back({normalizer, AttentionGate::element, false});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, AttentionRewrites, testing::ValuesIn(changes()), [](const auto& p) {
  std::string name = fmt::format("{}_gate_{}{}", normalizer_name(p.param.normalizer),
                                 attention_gate_name(p.param.gate), p.param.qk_norm ? "_norm" : "");
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// ---- Learned keys. ----

TEST(SinkLogit, AddsAScoreAHead) {
  const GraphPtr before = small_llama(), after = apply_attention_normalizer(before, sink_logit);
  EXPECT_THAT(added_names(*before, *after), ElementsAre("model.layers.0.self_attn.sinks f32[4]",
                                                        "model.layers.1.self_attn.sinks f32[4]"));
  for (const auto& [name, value] : before->names()) EXPECT_TRUE(after->find(name)) << name;
  EXPECT_EQ(apply_attention_normalizer(after, sink_logit), after);
  // Zeros are softmax-1, and minus infinity is softmax.
  const Tensors plain = test::random_inputs(*before, 1, -1, 1);
  Tensors inputs = plain;
  for (const auto& [start, same] :
       {std::pair(0.0, softmax_1), {-std::numeric_limits<double>::infinity(), softmax}}) {
    for (const AddedState& state : added_states(*before, *after)) {
      inputs[state.name] = zeros(state.type);
      for (double& x : inputs[state.name].data) x = start;
    }
    const GraphPtr other = apply_attention_normalizer(before, same);
    EXPECT_TRUE(test::close(interpret(*after, inputs), interpret(*other, plain),
                            {.relative = 1e-13, .absolute = 1e-15}));
  }
}

// Softmax-1 with a learned b a head, exp(s - b) / (1 + sum exp(s - b)), is sink-logit with z = b:
// that a request for it names sink-logit, tests/lab/train/config_test.cpp checks.
TEST(SinkLogit, IsSoftmax1WithALearnedBias) {
  const auto inputs_of = [](Builder& b) {
    return std::tuple(b.input("q", f32({2, 5, 4, 6})), b.input("k", f32({2, 5, 2, 6})),
                      b.input("v", f32({2, 5, 2, 6})));
  };
  Builder b("sinks");
  auto [q, k, v] = inputs_of(b);
  b.output("out", attention(q, k, v, true, 0.5).out);
  const GraphPtr rewritten = apply_attention_normalizer(b.finish(), sink_logit);
  Builder c("by_hand");
  std::tie(q, k, v) = inputs_of(c);
  const Tensor bias = c.state("attention.0.sinks", f32({4}));
  const auto keys = [](const Tensor& x) {
    const Tensor y = reshape(transpose(x, {0, 2, 1, 3}), {2, 2, 1, 5, 6});
    return reshape(broadcast(y, {2, 2, 2, 5, 6}), {2, 4, 5, 6});
  };
  const Tensor scores = matmul(transpose(q, {0, 2, 1, 3}), keys(k), {.transpose_b = true}) * 0.5;
  const Tensor visible = ge(c.iota(2, i32({1, 1, 5, 1})), c.iota(3, i32({1, 1, 1, 5})));
  const Tensor e = select(visible, exp(scores - reshape(bias, {4, 1, 1})), c.constant(0));
  const Tensor weights = e / (reduce_sum(e, {3}) + 1);
  c.output("out", transpose(matmul(weights, keys(v)), {0, 2, 1, 3}));
  expect_same_results(*rewritten, *c.finish(), 1e-12, -2, 2);
}

// One more key at position 0, with its value.
TEST(KvBias, IsOneMoreKeyOfEveryQuery) {
  for (double cap : {0.0, 0.7}) {
    const auto inputs_of = [](Builder& b) {
      return std::tuple(b.input("q", f32({2, 3, 4, 6})), b.input("k", f32({2, 5, 2, 6})),
                        b.input("v", f32({2, 5, 2, 6})));
    };
    Builder b("tokens");
    auto [q, k, v] = inputs_of(b);
    b.output("out", attention(q, k, v, false, 0.5, softmax, cap).out);
    const GraphPtr tokens = b.finish(), rewritten = apply_attention_normalizer(tokens, kv_bias);
    EXPECT_THAT(
        added_names(*tokens, *rewritten),
        ElementsAre("attention.0.kv_bias.key f32[2,6]", "attention.0.kv_bias.value f32[2,6]"));
    Builder c("one_more");
    std::tie(q, k, v) = inputs_of(c);
    Tensor key = c.state("attention.0.kv_bias.key", f32({2, 6})),
           value = c.state("attention.0.kv_bias.value", f32({2, 6}));
    const auto with = [&](const Tensor& x, const Tensor& bias) {
      return concat({broadcast(reshape(bias, {1, 1, 2, 6}), {2, 1, 2, 6}), x}, 1);
    };
    k = with(k, key);
    v = with(v, value);
    c.output("out", attention(q, k, v, false, 0.5, softmax, cap).out);
    expect_same_results(*rewritten, *c.finish(), 1e-13, -2, 2);
  }
}

TEST(KvBias, IsOutsideOfTheNamedValues) {
  const GraphPtr before = small_llama(), after = apply_attention_normalizer(before, kv_bias);
  EXPECT_THAT(added_names(*before, *after),
              ElementsAre("model.layers.0.self_attn.kv_bias.key f32[2,6]",
                          "model.layers.0.self_attn.kv_bias.value f32[2,6]",
                          "model.layers.1.self_attn.kv_bias.key f32[2,6]",
                          "model.layers.1.self_attn.kv_bias.value f32[2,6]"));
  // hook_v is what the projection gives, hook_z has the learned value in it.
  const Tensors inputs = test::random_inputs(*after, 1, -1, 1);
  const auto hook = [&](const GraphPtr& graph, const std::string& name) {
    Rewriter rewriter(*graph);
    for (int32_t id = 0; id < graph->size(); ++id)
      if (graph->node(id).op != Op::input) rewriter.copy(id);
    rewriter.output("hook", rewriter[*graph->find(name)]);
    Tensors own;
    for (int32_t id : graph->inputs())
      own[graph->input_name(id)] = inputs.at(graph->input_name(id));
    return interpret(*rewriter.finish(), own).at("hook");
  };
  EXPECT_TRUE(test::close(hook(after, "blocks.0.attn.hook_v"), hook(before, "blocks.0.attn.hook_v"),
                          {.relative = 1e-15}));
  const HostTensor z = hook(after, "blocks.0.attn.hook_z"),
                   pattern = hook(after, "blocks.0.attn.hook_pattern"),
                   v = hook(after, "blocks.0.attn.hook_v");
  const HostTensor& learned = inputs.at("model.layers.0.self_attn.kv_bias.value");
  for (int64_t h = 0; h < 4; ++h)
    for (int64_t i = 0; i < 6; ++i) {
      double sum = 0, rest = 1;
      for (int64_t s = 0; s <= 3; ++s) {
        sum += pattern.at({1, h, 3, s}) * v.at({1, s, h / 2, i});
        rest -= pattern.at({1, h, 3, s});
      }
      EXPECT_NEAR(z.at({1, 3, h, i}), sum + rest * learned.at({h / 2, i}), 1e-13);
    }
}

TEST(LearnedKeys, Errors) {
  const GraphPtr with_sinks = apply_attention_normalizer(small_llama(), sink_logit);
  EXPECT_EQ(user_error_of([&] { apply_attention_normalizer(with_sinks, kv_bias); }),
            "[attention] graph llama has the normaliser sink-logit already, with weights of its "
            "own. Build it without them to have kv-bias instead.");
  Builder b("g");
  Tensor q = b.input("q", f32({1, 2, 1, 4}));
  EXPECT_THAT(user_error_of([&] { attention(q, q, q, true, 1, sink_logit); }),
              HasSubstr("the normaliser sink-logit needs operand 3, the score of another "
                        "key f32[1,1,2]."));
  EXPECT_THAT(
      user_error_of([&] { attention(q, q, q, b.input("z", f32({1, 1, 2})), true, 1, softmax); }),
      HasSubstr("the normaliser softmax takes no score of another key, but f32[1,1,2] is "
                "given."));
}

// ---- Gates. ----

TEST(AttentionGate, MultipliesTheOutputBySigmoidsOfWhatProjectionsRead) {
  for (const auto& [gate, width] :
       {std::pair(AttentionGate::head, 1), {AttentionGate::element, 4}}) {
    const auto model = [](Builder& b, int64_t gates) {
      Tensor n = b.input("n", f32({2, 3, 5})), wq = b.input("wq", f32({16, 5})),
             wk = b.input("wk", f32({8, 5})), wv = b.input("wv", f32({8, 5})), wg;
      if (gates > 0) wg = b.state("attention.0.output_gate.weight", f32({4 * gates, 5}));
      const auto heads = [&](const Tensor& w, int64_t count) {
        return reshape(linear(n, w), {2, 3, count, 4});
      };
      Tensor z = attention(heads(wq, 4), heads(wk, 2), heads(wv, 2), true, 0.5).out;
      z.named("attn.hook_z");
      if (gates > 0) z = z * weir::sigmoid(reshape(linear(n, wg), {2, 3, 4, gates}));
      b.output("z", z);
      return b.finish();
    };
    Builder plain("plain"), by_hand("by_hand");
    const GraphPtr before = model(plain, 0), want = model(by_hand, width),
                   after = apply_attention_gate(before, gate);
    EXPECT_THAT(added_names(*before, *after),
                ElementsAre(fmt::format("attention.0.output_gate.weight f32[{},5]", 4 * width)));
    expect_same_results(*want, *after, 1e-14);
    EXPECT_EQ(after->type(*after->find("attn.hook_gate")), f32({2, 3, 4, width}));
    EXPECT_EQ(after->node(*after->find("attn.hook_z")).op, Op::mul);
  }
  const GraphPtr llama = small_llama();
  EXPECT_THAT(added_names(*llama, *apply_attention_gate(llama, AttentionGate::head)),
              ElementsAre("model.layers.0.self_attn.output_gate.weight f32[4,16]",
                          "model.layers.1.self_attn.output_gate.weight f32[4,16]"));
  EXPECT_EQ(apply_attention_gate(llama, AttentionGate::none), llama);
}

TEST(AttentionGate, Errors) {
  Builder b("g");
  Tensor q = b.input("q", f32({1, 2, 1, 4}));
  b.output("z", attention(q, q, q, true, 1).out);
  const GraphPtr graph = b.finish();
  EXPECT_THAT(
      user_error_of([&] { apply_attention_gate(graph, AttentionGate::head); }),
      HasSubstr("[attention_gate] no product makes the values of attention layer 0 of graph "
                "g, so that there is nothing that a gate could read."));
  EXPECT_EQ(user_error_of([] { parse_attention_gate("heads"); }),
            "[attention_gate] unknown gate 'heads'. Did you mean head? The gates are none, head, "
            "element.");
}

// ---- QK-norm. ----

TEST(QkNorm, NormalisesHeadsInFrontOfTheRotation) {
  const GraphPtr before = small_llama(), after = apply_qk_norm(before);
  EXPECT_THAT(added_names(*before, *after),
              ElementsAre("model.layers.0.self_attn.qk_norm.query f32[6]",
                          "model.layers.0.self_attn.qk_norm.key f32[6]",
                          "model.layers.1.self_attn.qk_norm.query f32[6]",
                          "model.layers.1.self_attn.qk_norm.key f32[6]"));
  EXPECT_EQ(first_value_of("model.layers.0.self_attn.qk_norm.query"), 1);
  for (const char* head : {"q", "k"}) {
    const Node& rotated = after->node(*after->find(fmt::format("blocks.1.attn.hook_rot_{}", head)));
    const Node& norm = after->node(rotated.inputs[0]);
    EXPECT_EQ(rotated.op, Op::rope);
    EXPECT_EQ(norm.op, Op::rms_norm);
    EXPECT_EQ(norm.attrs.get_float("eps"), 1e-5);
    EXPECT_EQ(norm.inputs[0], *after->find(fmt::format("blocks.1.attn.hook_{}", head)));
  }
  EXPECT_THAT(user_error_of([&] { apply_qk_norm(after); }),
              HasSubstr("[qk_norm] queries or keys of attention layer 0 of graph llama are "
                        "normalised already."));
}

// Without a rotation, everything that takes the scores' operands takes normalised ones.
TEST(QkNorm, NormalisesOperandsThatAreNotRotated) {
  const auto model = [](Builder& b, bool normalised) {
    Tensor q = b.input("q", f32({1, 3, 2, 4})), k = b.input("k", f32({1, 3, 1, 4}));
    const Tensor v = k;
    if (normalised) {
      Tensor query = b.state("attention.0.qk_norm.query", f32({4})),
             key = b.state("attention.0.qk_norm.key", f32({4}));
      q = rms_norm(q, query, 1e-5);
      k = rms_norm(k, key, 1e-5);
    }
    auto [out, rows] = attention(q, k, v, true, 0.5);
    b.output("out", out);
    b.output("pattern", attention_pattern(q, k, rows, true, 0.5));
    b.output("scores", attention_scores(q, k, false, 0.5));
    return b.finish();
  };
  Builder plain("plain"), by_hand("by_hand");
  const GraphPtr before = model(plain, false), want = model(by_hand, true);
  expect_same_results(*want, *apply_qk_norm(before), 1e-14);
}

}  // namespace
}  // namespace weir
