// Bayes-softmax (ir/normalizer.h) as a rewrite: by its formula from primitives, at scores of every
// size, and what it leaves as it was.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <limits>

#include "ir/edit.h"
#include "ir/rewrite_state.h"
#include "models/llama.h"
#include "passes/attention_normalizer.h"
#include "passes/autodiff.h"
#include "passes/decompose.h"
#include "passes/pass_test_util.h"
#include "passes/pipeline.h"
#include "passes/probes.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using enum AttentionNormalizer;
using testing::HasSubstr;

struct Shapes {
  int64_t heads, groups, keys;
  bool causal;
  double cap;
};
constexpr int64_t kBatch = 2, kQueries = 5, kWidth = 3;
constexpr double kScale = 0.5;
constexpr const char* kBias = "attention.0.bayes_softmax.bias";
const std::vector<Shapes> kShapes = {
    {4, 2, 5, true, 0}, {4, 4, 7, false, 0}, {6, 2, 5, true, 0.7}, {1, 1, 5, true, 0}};

// a[h,t,s] = H exp(s - b) / sum over heads and keys, with the array [B,H,T,S] of all heads.
Tensor output_by_hand(Builder& b, const Shapes& s, const Tensor& q, const Tensor& k,
                      const Tensor& v, const Tensor& bias) {
  const auto keys = [&](const Tensor& x) {  // [B,H,S,d], repeated for the heads of a group
    const Tensor y = reshape(transpose(x, {0, 2, 1, 3}), {kBatch, s.groups, 1, s.keys, kWidth});
    return reshape(broadcast(y, {kBatch, s.groups, s.heads / s.groups, s.keys, kWidth}),
                   {kBatch, s.heads, s.keys, kWidth});
  };
  Tensor scores = matmul(transpose(q, {0, 2, 1, 3}), keys(k), {.transpose_b = true}) * kScale;
  if (s.cap != 0) scores = tanh(scores * (1 / s.cap)) * s.cap;
  scores.named("hook_attn_scores");
  Tensor lowered = scores - reshape(bias, {s.heads, 1, 1});
  if (s.causal) {
    const Tensor visible =
        ge(b.iota(2, i32({1, 1, kQueries, 1})), b.iota(3, i32({1, 1, 1, s.keys})));
    lowered = select(visible, lowered, b.constant(-std::numeric_limits<double>::infinity()));
  }
  // Of one query the keys of all heads side by side.
  const Tensor all = weir::softmax(
      reshape(transpose(lowered, {0, 2, 1, 3}), {kBatch, kQueries, s.heads * s.keys}));
  const Tensor weights =
      transpose(reshape(all * static_cast<double>(s.heads), {kBatch, kQueries, s.heads, s.keys}),
                {0, 2, 1, 3});
  return transpose(matmul(weights.named("hook_pattern"), keys(v)), {0, 2, 1, 3});
}

GraphPtr attention_of(const Shapes& s, bool by_hand) {
  Builder b("attention");
  const Tensor q = b.input("q", f32({kBatch, kQueries, s.heads, kWidth})),
               k = b.input("k", f32({kBatch, s.keys, s.groups, kWidth})),
               v = b.input("v", f32({kBatch, s.keys, s.groups, kWidth})),
               w = b.input("w", f32({kBatch, kQueries, s.heads, kWidth}));
  Tensor z;
  if (by_hand) {
    z = output_by_hand(b, s, q, k, v, b.state(kBias, f32({s.heads})));
  } else {
    const auto [out, rows] = attention(q, k, v, s.causal, kScale, softmax, s.cap);
    z = out;
    attention_scores(q, k, s.causal, kScale, s.cap).named("hook_attn_scores");
    attention_pattern(q, k, rows, s.causal, kScale, softmax, s.cap).named("hook_pattern");
    attention_lse(rows, kScale, softmax, s.cap).named("hook_lse");
  }
  z.named("hook_z");
  b.output("z", z);
  b.output("loss", reshape(reduce_sum(z * z * w, {0, 1, 2, 3}), {}));
  const GraphPtr built = b.finish();
  return by_hand ? built : apply_attention_normalizer(built, bayes_softmax);
}

// Output and gradients, and whole arrays of probes.
Interpretation computed(const GraphPtr& built, const Tensors& inputs, Stage stage) {
  CompileOptions options{.gradients = {"q", "k", "v", kBias},
                         .probes = {"hook_attn_scores.grad", "hook_pattern", "hook_pattern.grad",
                                    "hook_pattern : row_sum", "hook_pattern : entropy"}};
  options.stop = stage;
  return interpret_all(*run_pipeline(built, options).graph, inputs);
}

TEST(BayesSoftmax, IsItsFormulaInAllPasses) {
  for (const Shapes& s : kShapes)
    for (double size : {1.0, 30.0}) {
      const GraphPtr by_hand = attention_of(s, true), rewritten = attention_of(s, false);
      const Tensors inputs = test::random_inputs(*by_hand, 1, -size, size);
      const Interpretation want = computed(by_hand, inputs, Stage::instrumented);
      for (Stage stage : {Stage::instrumented, Stage::planned}) {
        const Interpretation got = computed(rewritten, inputs, stage);
        const test::Tolerance tolerance{.relative = 1e-9, .absolute = 1e-10 * size * size};
        EXPECT_TRUE(test::close(got.outputs, want.outputs, tolerance)) << s.heads << " " << size;
        EXPECT_TRUE(test::close(got.probes, want.probes, tolerance)) << s.heads << " " << size;
      }
    }
}

// Scores of 10^6 and more differ in one head by 1: the heads' shares are exact, as their rows are
// compared before they are scaled and not by log-sum-exps. A head whose scores are far below all
// others has a gate of zero, and no gradient is anything but a number.
TEST(BayesSoftmax, OfHostileScores) {
  const Shapes s{4, 4, 5, true, 0};
  for (double size : {0.0, 1e3, 1e6, -1e6}) {
    const GraphPtr by_hand = attention_of(s, true), rewritten = attention_of(s, false);
    Tensors inputs = test::random_inputs(*by_hand, 1, -1, 1);
    HostTensor &q = inputs.at("q"), &k = inputs.at("k");
    for (size_t i = 0; i < q.data.size(); ++i) q.data[i] = i % kWidth == 0 ? 2 : 0;
    for (size_t i = 0; i < k.data.size(); ++i) {
      const auto head = static_cast<int64_t>(i) / kWidth % s.groups;
      k.data[i] = i % kWidth != 0 ? 0 : head == 3 ? size - 3000 : size + static_cast<double>(head);
    }
    for (double& b : inputs.at(kBias).data) b = 0;
    const Interpretation want = computed(by_hand, inputs, Stage::instrumented),
                         got = computed(rewritten, inputs, Stage::planned);
    EXPECT_TRUE(test::close(got.outputs, want.outputs, {.relative = 1e-9, .absolute = 1e-9}));
    const HostTensor& gates = got.probes.at("hook_pattern:row_sum");
    const double sum = 1 + std::exp(-1) + std::exp(-2);
    EXPECT_NEAR(gates.at({1, 2, 4}), 4 / sum, 1e-12) << size;
    EXPECT_NEAR(gates.at({0, 0, 0}), 4 * std::exp(-2) / sum, 1e-12) << size;
    EXPECT_EQ(gates.at({0, 3, 2}), 0) << size;
    for (const auto& [name, value] : got.outputs)
      for (double x : value.data) ASSERT_TRUE(std::isfinite(x)) << name;
  }
}

// Where a query has no score in any head, nothing is given, and nothing is no number.
TEST(BayesSoftmax, GateOfRowsWithoutScores) {
  GraphEditor editor("gate");
  const Value rows = editor.input("rows", f32({1, 2, 2, 2})), bias = editor.input("b", f32({2}));
  editor.output("gate", editor.add(Op::attention_head_gate, {rows, bias}, {{"scale", 1.0}}));
  const double lowest = std::numeric_limits<float>::lowest();
  // References of two queries, then sums; in the first query no head has a score, in the second one
  // the first head has none.
  const Tensors inputs = {{"rows", {f32({1, 2, 2, 2}), {lowest, lowest, 0, 0, lowest, 3, 0, 2}}},
                          {"b", {f32({2}), {0.5, 0.25}}}};
  const GraphPtr graph = editor.finish();
  EXPECT_EQ(interpret(*graph, inputs).at("gate").data, (std::vector<double>{0, 0, 0, 2}));
  EXPECT_EQ(interpret(*decompose(graph, DecomposeMode::all), inputs).at("gate").data,
            (std::vector<double>{0, 0, 0, 2}));
}

TEST(BayesSoftmax, OfOneHeadIsSoftmax) {
  const Shapes s{1, 1, 5, true, 0};
  Builder b("softmax");
  const Type type = f32({kBatch, kQueries, 1, kWidth});
  const Tensor q = b.input("q", type), k = b.input("k", type), v = b.input("v", type),
               w = b.input("w", type);
  const Tensor z = attention(q, k, v, true, kScale).out;
  b.output("z", z);
  b.output("loss", reshape(reduce_sum(z * z * w, {0, 1, 2, 3}), {}));
  const std::vector<std::string> wrt = {"q", "k", "v"};
  const GraphPtr plain = differentiate(b.finish(), {.wrt = wrt}),
                 gated = differentiate(attention_of(s, false), {.wrt = wrt});
  Tensors inputs = test::random_inputs(*gated, 1, -2, 2);
  const Tensors got = interpret(*gated, inputs);
  inputs.erase(kBias);
  for (const auto& [name, value] : interpret(*plain, inputs))
    EXPECT_EQ(got.at(name).data, value.data) << name;
}

GraphPtr llama_of_two_layers() {
  ModelConfig config = test::small_model(2);
  config.d_head = 6;
  return build_llama(config, 2, 5).graph;
}

TEST(BayesSoftmax, AddsABiasAHeadAndNamesItsGate) {
  const GraphPtr before = llama_of_two_layers(),
                 after = apply_attention_normalizer(before, bayes_softmax);
  std::vector<std::string> added;
  for (const AddedState& state : added_states(*before, *after)) {
    added.push_back(state.name + " " + to_string(state.type));
    EXPECT_EQ(first_value_of(state.name), 0);
    EXPECT_FALSE(find_rewrite_state(state.name)->decays);
  }
  EXPECT_THAT(added, testing::ElementsAre("model.layers.0.self_attn.bayes_softmax.bias f32[4]",
                                          "model.layers.1.self_attn.bayes_softmax.bias f32[4]"));
  for (const auto& [name, value] : before->names()) EXPECT_TRUE(after->find(name)) << name;
  EXPECT_EQ(after->type(expect(after->find("blocks.1.attn.hook_head_gate"))), f32({2, 5, 4, 1}));
  EXPECT_EQ(apply_attention_normalizer(after, bayes_softmax), after);
  EXPECT_EQ(user_error_of([&] { apply_attention_normalizer(after, softmax_1); }),
            "[attention] graph llama has the normaliser bayes-softmax already, with weights of its "
            "own. Build it without them to have softmax-1 instead.");
  // Another normaliser without weights of its own is replaced.
  const GraphPtr replaced =
      apply_attention_normalizer(apply_attention_normalizer(before, softmax_1), bayes_softmax);
  const Tensors inputs = test::random_inputs(*after, 1, -1, 1);
  EXPECT_TRUE(test::close(interpret(*replaced, inputs), interpret(*after, inputs), {}));
}

// What is kept of an attention does not grow with tokens times tokens.
TEST(BayesSoftmax, HasNoArrayOfTokensTimesTokens) {
  ModelConfig config = test::small_model(1);
  config.context = 64;
  const int64_t T = 64;
  CompileOptions options{
      .gradients = {"*"},
      .probes = {"blocks.0.attn.hook_pattern : row_sum", "blocks.0.attn.hook_pattern : column_mass",
                 "blocks.0.attn.hook_head_gate : mean(batch)"},
      .rewrites = {.attention = bayes_softmax}};
  const GraphPtr planned = run_pipeline(build_llama(config, 2, T).graph, options).graph;
  for (const Node& node : planned->nodes())
    for (const Type& type : node.types) {
      if (node.op == Op::input) continue;
      int64_t wide = 0;
      for (int64_t size : type.shape) wide += size == T ? 1 : 0;
      EXPECT_LT(wide, 2) << to_string(type);
    }
}

TEST(BayesSoftmax, Errors) {
  Builder b("g");
  const Tensor q = b.input("q", f32({1, 2, 2, 4})), bias = b.input("b", f32({3}));
  EXPECT_THAT(user_error_of([&] { attention(q, q, q, true, 1, bayes_softmax); }),
              HasSubstr("the normaliser bayes-softmax is made of all heads, but an attention "
                        "normalises one. Multiply the output of softmax by attention_head_gate "
                        "instead, as the option attention=bayes-softmax does."));
  const auto [out, rows] = attention(q, q, q, true, 1, softmax);
  EXPECT_THAT(user_error_of([&] { attention_head_gate(rows, bias, 1); }),
              HasSubstr("bias of heads"));
  b.output("loss", reshape(reduce_sum(rows * rows, {0, 1, 2, 3}), {}));
  const GraphPtr graph = b.finish();
  EXPECT_THAT(user_error_of([&] { differentiate(graph, {.wrt = {"q"}}); }),
              HasSubstr("the loss depends on the row statistics of an attention, through which no "
                        "gradient flows."));
}

}  // namespace
}  // namespace weir
