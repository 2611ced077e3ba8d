#include "codegen/attention/attention.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <optional>

#include "codegen/phases_test_util.h"
#include "interpret/interpret.h"
#include "ir/edit.h"
#include "ir/map_cells.h"
#include "ir/normalizer.h"
#include "runtime/random.h"
#include "testing/runnable_targets.h"

namespace weir {
namespace {

using test::PhasesRunner;

struct Case {
  int64_t B, T, H, G, d;
  bool causal;
  int64_t key_block;
  int64_t S = 0;  ///< keys, if not T
  AttentionNormalizer normalizer = AttentionNormalizer::softmax;
  /// Added to the score of every key for every query by one feature: very negative rows give no
  /// weight to any key, very positive ones none to the zero that softmax-1 adds.
  double shift = 0;
  std::optional<double> scale = {};  ///< of scores, if not the usual one
  double cap = 0;                    ///< of scores, if not 0
  bool of_lse = false;               ///< with a gradient at the rows' log-sum-exps

  Type rows() const { return f32({B, H, info(normalizer).row_numbers(), T}); }
  double score_scale() const { return scale.value_or(1 / std::sqrt(static_cast<double>(d))); }
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << "B" << c.B << " T" << c.T << " H" << c.H << " G" << c.G << " d" << c.d
       << (c.causal ? " causal" : "") << " block " << c.key_block << " "
       << normalizer_name(c.normalizer) << " shift " << c.shift << " scale " << c.score_scale()
       << " cap " << c.cap << (c.of_lse ? " with dlse" : "");
}

// A region of attention, or of its gradient and statistics in one kernel.
GraphPtr region_of(const Case& c, bool backward) {
  GraphEditor editor("region");
  int64_t S = c.S ? c.S : c.T;
  Type q = f32({c.B, c.T, c.H, c.d}), k = f32({c.B, S, c.G, c.d}), rows = c.rows();
  Attrs attrs{{"causal", c.causal}, {"scale", c.score_scale()}, {"key_block", c.key_block}};
  set_normalizer(attrs, c.normalizer);
  if (c.cap != 0) attrs.set("cap", c.cap);
  Value vq = editor.input("q", q), vk = editor.input("k", k), vv = editor.input("v", k);
  std::vector<Value> results;
  if (backward) {
    Value out = editor.input("out", q), r = editor.input("rows", rows),
          dout = editor.input("dout", q);
    std::vector<Value> operands = {vq, vk, vv, out, r, dout};
    if (c.of_lse) operands.push_back(editor.input("dlse", f32({c.B, c.H, c.T})));
    results = editor.add_node(Op::attention_grad, operands, attrs);
    Attrs stats = attrs;
    stats.set("sink", int64_t{0});
    for (Value value : editor.add_node(Op::attention_stats, {vq, vk, r}, stats))
      results.push_back(value);
  } else {
    std::vector<Value> operands = {vq, vk, vv};
    if (takes_other_score(c.normalizer))
      operands.push_back(editor.input("other", f32({c.B, c.H, c.T})));
    results = editor.add_node(Op::attention, operands, attrs);
  }
  for (size_t i = 0; i < results.size(); ++i)
    editor.output(std::string(1, static_cast<char>('a' + i)), results[i]);
  return editor.finish();
}

Tensors random_inputs(const Graph& region, const Case& c) {
  Tensors inputs;
  uint64_t stream = 1;
  for (int32_t id : region.inputs()) {
    Random random(3, stream++);
    HostTensor tensor{region.node(id).types[0], {}};
    for (int64_t i = 0; i < tensor.type.elements(); ++i)
      tensor.data.push_back(static_cast<float>(random.normal()));
    const std::string& name = region.input_name(id);
    bool is_key = name == "k";
    if (c.shift != 0 && (is_key || name == "q"))
      for (size_t i = 0; i < tensor.data.size(); i += static_cast<size_t>(c.d))
        tensor.data[i] = is_key ? c.shift * std::sqrt(static_cast<double>(c.d)) : 1;
    inputs[name] = tensor;
  }
  return inputs;
}

using MakeKernel = KernelCode (*)(const Graph& region, const Target& target);

PhasesRunner compiled(MakeKernel make, const GraphPtr& region, const Target& target) {
  return {region, make(*region, target), target};
}

/// To the last bit, the sign of zeros included.
void expect_same_bits(const HostTensor& a, const HostTensor& b, const std::string& what) {
  ASSERT_EQ(a.data.size(), b.data.size()) << what;
  EXPECT_EQ(0, std::memcmp(a.data.data(), b.data.data(), a.data.size() * sizeof(double))) << what;
}

void expect_close(const HostTensor& got, const HostTensor& want, const Case& c,
                  const std::string& what) {
  ASSERT_EQ(got.data.size(), want.data.size());
  // Results that are all tiny count as they are, but their scores are rounded as large numbers are;
  // in saturated rows gradients cancel that are as large as the shifted keys.
  // Gradients are as small as an unusual scale makes them.
  double largest = c.shift < 0 || c.scale ? 0 : 1 + c.shift * std::sqrt(static_cast<double>(c.d));
  for (double x : want.data) largest = std::max(largest, std::abs(x));
  double tolerance = (c.shift < 0 ? 8e-5 : 2e-5) * largest;
  for (size_t i = 0; i < got.data.size(); ++i)
    ASSERT_NEAR(got.data[i], want.data[i], tolerance) << what << " element " << i;
}

class Attention : public testing::TestWithParam<Case> {};

TEST_P(Attention, ForwardMatchesTheInterpreter) {
  GraphPtr region = region_of(GetParam(), false);
  Tensors inputs = random_inputs(*region, GetParam()), want = interpret(*region, inputs);
  for (const Target& target : runnable_targets()) {
    const PhasesRunner run = compiled(attention_kernel, region, target);
    const Tensors one = run(inputs), two = run(inputs, 2);
    for (const auto& [name, values] : one) {
      expect_close(values, want.at(name), GetParam(), target.name + " output " + name);
      expect_same_bits(values, two.at(name), name);
    }
  }
}

TEST_P(Attention, BackwardAndStatisticsMatchTheInterpreter) {
  GraphPtr forward = region_of(GetParam(), false), region = region_of(GetParam(), true);
  Tensors inputs = random_inputs(*region, GetParam());
  Tensors results = interpret(*forward, random_inputs(*forward, GetParam()));
  inputs["out"] = results.at("a");
  inputs["rows"] = results.at("b");
  Tensors want = interpret(*region, inputs);
  for (const Target& target : runnable_targets()) {
    const PhasesRunner run = compiled(attention_backward_kernel, region, target);
    const Tensors one = run(inputs), two = run(inputs, 2);
    for (const auto& [name, values] : one) {
      expect_close(values, want.at(name), GetParam(), target.name + " output " + name);
      expect_same_bits(values, two.at(name), name);
    }
  }
}

// Statistics beside the gradients leave them as they are, and are the same alone.
TEST_P(Attention, StatisticsChangeNoGradientBit) {
  GraphPtr both = region_of(GetParam(), true);
  Tensors inputs = random_inputs(*both, GetParam());
  GraphEditor grads("region"), stats("region");
  for (GraphEditor* editor : {&grads, &stats}) {
    std::vector<Value> values;
    for (int32_t id : both->inputs())
      values.push_back(editor->input(both->input_name(id), both->node(id).types[0]));
    std::vector<Value> outputs = inline_graph(*editor, *both, values);
    for (size_t i = 0; i < outputs.size(); ++i)
      if ((editor == &grads) == (i < 3)) editor->output(both->outputs()[i].name, outputs[i]);
  }
  GraphPtr grad_region = live_graph(grads.finish(), false);
  GraphPtr stat_region = live_graph(stats.finish(), false);
  for (const Target& target : runnable_targets()) {
    const Tensors all = compiled(attention_backward_kernel, both, target)(inputs);
    for (const GraphPtr& region : {grad_region, stat_region})
      for (const auto& [name, values] : compiled(attention_backward_kernel, region, target)(inputs))
        expect_same_bits(values, all.at(name), name);
  }
}

// Means over cells of queries and keys: of one token, of several, and of all.
TEST_P(Attention, MapsMatchTheInterpreter) {
  const Case& c = GetParam();
  GraphPtr forward = region_of(c, false);
  const Tensors forward_inputs = random_inputs(*forward, c);
  const HostTensor rows = interpret(*forward, forward_inputs).at("b");
  for (int64_t side : {1, 5, 16, 40, 256}) {
    GraphEditor editor("region");
    const int64_t S = c.S ? c.S : c.T;
    Attrs attrs{{"causal", c.causal},
                {"scale", c.score_scale()},
                {"key_block", c.key_block},
                {"side", side}};
    set_normalizer(attrs, c.normalizer);
    Value q = editor.input("q", f32({c.B, c.T, c.H, c.d}));
    Value k = editor.input("k", f32({c.B, S, c.G, c.d}));
    Value r = editor.input("rows", c.rows());
    editor.output("map", editor.add(Op::attention_map, {q, k, r}, attrs));
    const GraphPtr region = editor.finish();
    const Tensors inputs = {
        {"q", forward_inputs.at("q")}, {"k", forward_inputs.at("k")}, {"rows", rows}};
    const HostTensor want = interpret(*region, inputs).at("map");
    EXPECT_EQ(want.shape()[2], map_cells(c.T, side).count());
    EXPECT_LE(want.shape()[3], side);
    for (const Target& target : runnable_targets()) {
      const PhasesRunner run = compiled(attention_map_kernel, region, target);
      const HostTensor one = run(inputs).at("map"), two = run(inputs, 2).at("map");
      expect_close(one, want, c, target.name + fmt::format(" side {}", side));
      expect_same_bits(one, two, "map");
    }
  }
}

// Pair by pair, for gradients, error scales and bounds of a check.
TEST_P(Attention, IdentitiesMatchTheInterpreter) {
  const Case& c = GetParam();
  const Tensors forward = interpret(*region_of(c, false), random_inputs(*region_of(c, false), c));
  GraphEditor editor("region");
  const Type q = f32({c.B, c.T, c.H, c.d}), k = f32({c.B, c.S ? c.S : c.T, c.G, c.d});
  Attrs attrs{{"causal", c.causal}, {"scale", c.score_scale()}};
  set_normalizer(attrs, c.normalizer);
  if (c.cap != 0) attrs.set("cap", c.cap);
  std::vector<Value> operands = {editor.input("q", q), editor.input("k", k), editor.input("v", k),
                                 editor.input("out", q), editor.input("dout", q)};
  const bool takes_other = takes_other_score(c.normalizer);
  if (takes_other) operands.push_back(editor.input("other", f32({c.B, c.H, c.T})));
  if (c.of_lse) operands.push_back(editor.input("dlse", f32({c.B, c.H, c.T})));
  const std::vector<Value> results = editor.add_node(Op::attention_identities, operands, attrs);
  for (size_t i = 0; i < results.size(); ++i)
    editor.output(std::string(1, static_cast<char>('a' + i)), results[i]);
  const GraphPtr region = editor.finish();
  Tensors inputs = random_inputs(*region, c);
  const Tensors forward_inputs = random_inputs(*region_of(c, false), c);
  for (const char* name : {"q", "k", "v"}) inputs[name] = forward_inputs.at(name);
  if (takes_other) inputs["other"] = forward_inputs.at("other");
  inputs["out"] = forward.at("a");
  const Tensors want = interpret(*region, inputs);
  for (const Target& target : runnable_targets()) {
    const PhasesRunner run = compiled(attention_identities_kernel, region, target);
    const Tensors one = run(inputs), two = run(inputs, 2);
    for (const auto& [name, values] : one) {
      expect_close(values, want.at(name), c, target.name + " output " + name);
      expect_same_bits(values, two.at(name), name);
    }
  }
}

// Its gradients are those of the backward kernel, summed over the heads of a group.
TEST_P(Attention, IdentitiesAreTheGradients) {
  const Case& c = GetParam();
  // Of other normalisers dk and dq have another derivative, dv has not.
  const int compared = info(c.normalizer).exponential ? 3 : 1;
  GraphEditor editor("both");
  const Type q = f32({c.B, c.T, c.H, c.d}), k = f32({c.B, c.S ? c.S : c.T, c.G, c.d});
  Attrs attrs{{"causal", c.causal}, {"scale", c.score_scale()}};
  set_normalizer(attrs, c.normalizer);
  if (c.cap != 0) attrs.set("cap", c.cap);
  const Value vq = editor.input("q", q), vk = editor.input("k", k), vv = editor.input("v", k);
  const Value dout = editor.input("dout", q);
  std::vector<Value> operands = {vq, vk, vv}, of_identities = {vq, vk, vv};
  if (takes_other_score(c.normalizer))
    operands.push_back(editor.input("other", f32({c.B, c.H, c.T})));
  Value dlse;  // inputs come before nodes
  if (c.of_lse) dlse = editor.input("dlse", f32({c.B, c.H, c.T}));
  const std::vector<Value> forward = editor.add_node(Op::attention, operands, attrs);
  of_identities.insert(of_identities.end(), {forward[0], dout});
  if (operands.size() > 3) of_identities.push_back(operands[3]);
  std::vector<Value> of_gradients = {vq, vk, vv, forward[0], forward[1], dout};
  if (c.of_lse) {
    of_identities.push_back(dlse);
    of_gradients.push_back(dlse);
  }
  const std::vector<Value> gradients = editor.add_node(Op::attention_grad, of_gradients, attrs);
  const std::vector<Value> identities =
      editor.add_node(Op::attention_identities, of_identities, attrs);
  for (size_t i = 0; i < 3; ++i) {
    editor.output(fmt::format("gradient{}", i), gradients[i]);
    editor.output(fmt::format("identity{}", 2 - i), identities[i]);
  }
  const GraphPtr graph = editor.finish();
  const Tensors results = interpret(*graph, random_inputs(*graph, c));
  for (int i = 2; i > 2 - compared; --i) {
    const HostTensor& gradient = results.at(fmt::format("gradient{}", i));
    HostTensor identity = results.at(fmt::format("identity{}", i));
    double largest = 0;
    for (double x : identity.data) largest = std::max(largest, std::abs(x));
    const int64_t heads = identity.shape()[2], groups = gradient.shape()[2];
    const int64_t rows = identity.shape()[0] * identity.shape()[1], d = identity.shape()[3];
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t g = 0; g < groups; ++g)
        for (int64_t x = 0; x < d; ++x) {
          double sum = 0;
          for (int64_t h = g * heads / groups; h < (g + 1) * heads / groups; ++h)
            sum += identity.data[static_cast<size_t>((row * heads + h) * d + x)];
          ASSERT_NEAR(gradient.data[static_cast<size_t>((row * groups + g) * d + x)], sum,
                      1e-10 * (1 + largest))
              << "gradient " << i;
        }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Attention,
    testing::Values(Case{1, 1, 1, 1, 2, true, 16}, Case{2, 13, 4, 2, 6, true, 16},
                    Case{1, 17, 2, 2, 16, false, 16}, Case{2, 70, 2, 1, 20, true, 32},
                    Case{1, 130, 3, 3, 64, true, 64}, Case{1, 66, 1, 1, 128, true, 48},
                    Case{2, 9, 2, 1, 8, false, 32, 21}));

constexpr auto kSoftmax1 = AttentionNormalizer::softmax_1;
constexpr auto kSinkLogit = AttentionNormalizer::sink_logit;
INSTANTIATE_TEST_SUITE_P(Softmax1, Attention,
                         testing::Values(Case{2, 13, 4, 2, 6, true, 16, 0, kSoftmax1},
                                         Case{1, 70, 2, 1, 20, true, 32, 0, kSoftmax1},
                                         Case{2, 9, 2, 1, 8, false, 32, 21, kSoftmax1},
                                         Case{1, 1, 1, 1, 2, true, 16, 0, kSoftmax1, -30},
                                         Case{2, 13, 4, 2, 6, true, 16, 0, kSoftmax1, -30},
                                         Case{2, 9, 2, 1, 8, false, 32, 21, kSoftmax1, 40}));

INSTANTIATE_TEST_SUITE_P(SinkLogit, Attention,
                         testing::Values(Case{2, 13, 4, 2, 6, true, 16, 0, kSinkLogit},
                                         Case{1, 70, 2, 1, 20, true, 32, 0, kSinkLogit},
                                         Case{2, 9, 2, 1, 8, false, 32, 21, kSinkLogit},
                                         Case{2, 13, 4, 2, 6, true, 16, 0, kSinkLogit, -30},
                                         Case{2, 9, 2, 1, 8, false, 32, 21, kSinkLogit, 40},
                                         Case{2, 9, 2, 1, 8, false, 32, 21, kSinkLogit, 0, 1e-31}));

// Whose weights follow from the sign of a score, or from the score alone: scores of both signs, all
// negative, and all large.
std::vector<Case> by_sign() {
  std::vector<Case> cases;
  for (AttentionNormalizer normalizer :
       {AttentionNormalizer::softpick, AttentionNormalizer::relu, AttentionNormalizer::sigmoid}) {
    cases.push_back({1, 1, 1, 1, 2, true, 16, 0, normalizer});
    cases.push_back({2, 13, 4, 2, 6, true, 16, 0, normalizer});
    cases.push_back({1, 70, 2, 1, 20, true, 32, 0, normalizer});
    cases.push_back({1, 130, 3, 3, 64, true, 64, 0, normalizer});
    cases.push_back({2, 9, 2, 1, 8, false, 32, 21, normalizer});
    cases.push_back({2, 13, 4, 2, 6, true, 16, 0, normalizer, -30});
    cases.push_back({2, 9, 2, 1, 8, false, 32, 21, normalizer, 40});
    cases.push_back({2, 13, 4, 2, 6, true, 16, 0, normalizer, 0, -0.4});
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(BySign, Attention, testing::ValuesIn(by_sign()));

// Scores turned round, all equal, or so small that the kernels apply the scale elsewhere.
std::vector<Case> unusual_scales() {
  std::vector<Case> cases;
  for (double scale : {-0.4, 0.0, 1e-30, 1e-31, -1e-30}) {
    cases.push_back({2, 13, 4, 2, 6, true, 16, 0, AttentionNormalizer::softmax, 0, scale});
    cases.push_back({2, 9, 2, 1, 8, false, 32, 21, kSoftmax1, 0, scale});
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Scales, Attention, testing::ValuesIn(unusual_scales()));

// Caps that change little, bend, and saturate; with scales turned round.
std::vector<Case> capped() {
  std::vector<Case> cases;
  for (double cap : {50.0, 1.0, 0.1})
    for (AttentionNormalizer normalizer : head_normalizers()) {
      if (normalizer == AttentionNormalizer::kv_bias) continue;  // the kernels of sink_logit
      cases.push_back({2, 13, 4, 2, 6, true, 16, 0, normalizer, 0, {}, cap});
      cases.push_back({2, 9, 2, 1, 8, false, 32, 21, normalizer, 0, -0.4, cap});
      cases.push_back({1, 70, 2, 1, 20, true, 32, 0, normalizer, 0, 2.0, cap});
    }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Caps, Attention, testing::ValuesIn(capped()));

// With a gradient at the rows' log-sum-exps: keys in several panels, caps, scores far from zero.
std::vector<Case> with_lse_gradient() {
  const auto softmax = AttentionNormalizer::softmax;
  return {{1, 1, 1, 1, 2, true, 16, 0, softmax, 0, {}, 0, true},
          {2, 13, 4, 2, 6, true, 16, 0, softmax, 0, {}, 0, true},
          {1, 130, 3, 3, 64, true, 64, 0, softmax, 0, {}, 0, true},
          {2, 9, 2, 1, 8, false, 32, 21, softmax, 0, -0.4, 1.0, true},
          {1, 70, 2, 1, 20, true, 32, 0, softmax, 0, 2.0, 0.1, true},
          {2, 13, 4, 2, 6, true, 16, 0, softmax, 40, {}, 0, true}};
}
INSTANTIATE_TEST_SUITE_P(LseGradient, Attention, testing::ValuesIn(with_lse_gradient()));

// A row with all its weight on one key: what reaches its score is the gradient at the log-sum-exp.
TEST(AttentionWithLseGradient, OfAWholeRowIsTheGradientThere) {
  const Case c{1, 1, 1, 1, 2, true, 16, 0, AttentionNormalizer::softmax, 0, 1.0, 0, true};
  const GraphPtr backward = region_of(c, true), forward = region_of(c, false);
  Tensors inputs = random_inputs(*backward, c);
  const Tensors results = interpret(*forward, random_inputs(*forward, c));
  inputs["out"] = results.at("a");
  inputs["rows"] = results.at("b");
  inputs["dlse"].data = {0.75};
  for (const Target& target : runnable_targets()) {
    const Tensors got = compiled(attention_backward_kernel, backward, target)(inputs);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(got.at("a").data[i], 0.75F * static_cast<float>(inputs.at("k").data[i]));
      EXPECT_EQ(got.at("b").data[i], 0.75F * static_cast<float>(inputs.at("q").data[i]));
    }
  }
}

// Statistics and maps of bayes-softmax from rows with their gates, of which one is zero.
TEST(AttentionOfBayesSoftmax, StatisticsAndMapsOfGatedRows) {
  const Case c{2, 21, 4, 2, 6, true, 16};
  const GraphPtr forward = region_of(c, false);
  const Tensors forward_inputs = random_inputs(*forward, c);
  const HostTensor rows = interpret(*forward, forward_inputs).at("b");
  HostTensor gated = zeros(f32({c.B, c.H, 3, c.T}));
  for (int64_t b = 0; b < c.B; ++b)
    for (int64_t h = 0; h < c.H; ++h)
      for (int64_t t = 0; t < c.T; ++t) {
        for (int64_t i = 0; i < 2; ++i)
          gated.data[(((b * c.H + h) * 3) + i) * c.T + t] = rows.at({b, h, i, t});
        gated.data[(((b * c.H + h) * 3) + 2) * c.T + t] = static_cast<float>(0.3 * ((h + t) % 5));
      }
  Tensors inputs = {{"q", forward_inputs.at("q")}, {"k", forward_inputs.at("k")}, {"rows", gated}};
  for (const bool map : {false, true}) {
    GraphEditor editor("region");
    const Value q = editor.input("q", inputs.at("q").type),
                k = editor.input("k", inputs.at("k").type), r = editor.input("rows", gated.type);
    Attrs attrs{{"causal", true}, {"scale", c.score_scale()}, {"key_block", c.key_block}};
    set_normalizer(attrs, AttentionNormalizer::bayes_softmax);
    attrs.set(map ? "side" : "sink", int64_t{map ? 5 : 0});
    const std::vector<Value> results =
        editor.add_node(map ? Op::attention_map : Op::attention_stats, {q, k, r}, attrs);
    for (size_t i = 0; i < results.size(); ++i)
      editor.output(std::string(1, static_cast<char>('a' + i)), results[i]);
    const GraphPtr region = editor.finish();
    const Tensors want = interpret(*region, inputs);
    for (const Target& target : runnable_targets()) {
      const PhasesRunner run =
          compiled(map ? attention_map_kernel : attention_backward_kernel, region, target);
      const Tensors one = run(inputs), two = run(inputs, 2);
      for (const auto& [name, values] : one) {
        expect_close(values, want.at(name), c, target.name + " output " + name);
        expect_same_bits(values, two.at(name), name);
      }
      if (map) continue;
      EXPECT_NEAR(one.at("f").at({0, 1, 2}), 0.9, 1e-6);  // the row sum is the gate
      EXPECT_EQ(one.at("f").at({0, 0, 5}), 0);
    }
  }
}

class AttentionOfAnyNormalizer : public testing::TestWithParam<AttentionNormalizer> {};

// A query whose every score is minus infinity gives nothing, and takes part in no gradient; the
// others are as they would be without the keys that have such scores.
TEST_P(AttentionOfAnyNormalizer, RowsWithoutAnyScoreAreZero) {
  Case c{1, 5, 2, 1, 4, true, 16, 0, GetParam()};
  Target target = runnable_targets().back();
  GraphPtr forward = region_of(c, false), backward = region_of(c, true);
  Tensors inputs = random_inputs(*backward, c);
  // Products with the first two keys are minus infinity.
  for (int64_t t = 0; t < c.T; ++t)
    for (int64_t h = 0; h < c.H; ++h)
      inputs["q"].data[(t * c.H + h) * c.d] = std::abs(inputs["q"].data[(t * c.H + h) * c.d]);
  for (int64_t s : {0, 1}) inputs["k"].data[s * c.d] = -std::numeric_limits<double>::infinity();
  Tensors forward_inputs = random_inputs(*forward, c);
  for (const char* name : {"q", "k", "v"}) forward_inputs[name] = inputs.at(name);
  const Tensors want_forward = interpret(*forward, forward_inputs);
  Tensors results = compiled(attention_kernel, forward, target)(forward_inputs);
  expect_close(results.at("a"), want_forward.at("a"), c, "out");
  for (int64_t i = 0; i < 2 * c.H * c.d; ++i) EXPECT_EQ(results.at("a").data[i], 0) << i;
  for (const auto& [input, output] : {std::pair{"out", "a"}, {"rows", "b"}})
    inputs[input].data = results.at(output).data;
  const Tensors want = interpret(*backward, inputs);
  results = compiled(attention_backward_kernel, backward, target)(inputs);
  for (const auto& [name, values] : results) {
    for (size_t i = 0; i < values.data.size(); ++i) {
      // Products with a key that is infinite are no numbers, but for its own.
      if (name == "a" && i % c.d == 0) continue;
      EXPECT_TRUE(std::isfinite(values.data[i])) << name << " " << i;
      EXPECT_NEAR(values.data[i], want.at(name).data[i], 1e-5) << name << " " << i;
    }
  }
}

// Scores of 10^30 and -10^30, which no exponential takes as they are.
TEST_P(AttentionOfAnyNormalizer, HugeScoresGiveNumbers) {
  const auto expect_numbers = [](const HostTensor& got, const HostTensor& want,
                                 const std::string& what) {
    double largest = 0;
    for (double x : want.data) largest = std::max(largest, std::abs(x));
    for (size_t i = 0; i < got.data.size(); ++i)
      ASSERT_NEAR(got.data[i], want.data[i], 2e-5 * largest) << what << " " << i;
  };
  for (double shift : {1e30, -1e30})
    for (double cap : {0.0, 30.0}) {
      const Case c{1, 21, 2, 1, 6, true, 16, 0, GetParam(), shift, {}, cap};
      const Target target = runnable_targets().back();
      const GraphPtr forward = region_of(c, false), backward = region_of(c, true);
      const Tensors forward_inputs = random_inputs(*forward, c);
      const Tensors want_forward = interpret(*forward, forward_inputs);
      Tensors inputs = random_inputs(*backward, c);
      Tensors results = compiled(attention_kernel, forward, target)(forward_inputs);
      expect_numbers(results.at("a"), want_forward.at("a"), "out");
      // Each with its own rows: their references are rounded.
      const auto with_rows_of = [&](const Tensors& outputs) {
        for (const auto& [input, output] : {std::pair{"out", "a"}, {"rows", "b"}})
          inputs[input].data = outputs.at(output).data;
        return inputs;
      };
      const Tensors want = interpret(*backward, with_rows_of(want_forward));
      inputs = with_rows_of(results);
      results = compiled(attention_backward_kernel, backward, target)(inputs);
      for (const auto& [name, values] : results) {
        for (double x : values.data) ASSERT_TRUE(std::isfinite(x)) << name;
        // What cancels beside keys of that size is rounding in either.
        if (name != "a" && name != "b") expect_numbers(values, want.at(name), name);
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Normalizers, AttentionOfAnyNormalizer,
                         testing::ValuesIn(head_normalizers()), [](const auto& p) {
                           std::string name = normalizer_name(p.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Beside the zero that is added every exponential underflows: the head gives nothing and its
// gradients are zero. What its weights are in relation to each other is still known.
TEST(AttentionOfSoftmax1, SwitchedOffIsZero) {
  Case c{1, 21, 2, 1, 6, true, 16, 0, kSoftmax1, -500};
  Target target = runnable_targets().back();
  GraphPtr forward = region_of(c, false), backward = region_of(c, true);
  Tensors inputs = random_inputs(*backward, c);
  Tensors results = compiled(attention_kernel, forward, target)(inputs);
  EXPECT_THAT(results.at("a").data, testing::Each(0));
  for (const auto& [input, output] : {std::pair{"out", "a"}, {"rows", "b"}})
    inputs[input].data = results.at(output).data;
  const Tensors want = interpret(*backward, inputs);
  results = compiled(attention_backward_kernel, backward, target)(inputs);
  for (const char* gradient : {"a", "b", "c"})
    EXPECT_THAT(results.at(gradient).data, testing::Each(0)) << gradient;
  for (const char* statistic : {"d", "e", "f", "g", "h"})
    expect_close(results.at(statistic), want.at(statistic), c, statistic);
  EXPECT_THAT(results.at("i").data, testing::Each(0)) << "row sum";
}

}  // namespace
}  // namespace weir
