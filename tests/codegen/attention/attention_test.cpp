#include "codegen/attention/attention.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <optional>

#include "codegen/kernel_test.h"
#include "interpret/interpret.h"
#include "ir/edit.h"
#include "ir/map_cells.h"
#include "ir/normalizer.h"
#include "runtime/random.h"
#include "runtime/threads.h"

namespace weir {
namespace {

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

  double score_scale() const { return scale.value_or(1 / std::sqrt(static_cast<double>(d))); }
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << "B" << c.B << " T" << c.T << " H" << c.H << " G" << c.G << " d" << c.d
       << (c.causal ? " causal" : "") << " block " << c.key_block << " "
       << normalizer_name(c.normalizer) << " shift " << c.shift << " scale " << c.score_scale();
}

// A region of attention, or of its gradient and statistics in one kernel.
GraphPtr region_of(const Case& c, bool backward) {
  GraphEditor editor("region");
  int64_t S = c.S ? c.S : c.T;
  Type q = f32({c.B, c.T, c.H, c.d}), k = f32({c.B, S, c.G, c.d}), rows = f32({c.B, c.H, 2, c.T});
  Attrs attrs{{"causal", c.causal}, {"scale", c.score_scale()}, {"key_block", c.key_block}};
  set_normalizer(attrs, c.normalizer);
  Value vq = editor.input("q", q), vk = editor.input("k", k), vv = editor.input("v", k);
  std::vector<Value> results;
  if (backward) {
    Value out = editor.input("out", q), r = editor.input("rows", rows),
          dout = editor.input("dout", q);
    results = editor.add_node(Op::attention_grad, {vq, vk, vv, out, r, dout}, attrs);
    Attrs stats = attrs;
    stats.set("sink", int64_t{0});
    for (Value value : editor.add_node(Op::attention_stats, {vq, vk, r}, stats))
      results.push_back(value);
  } else {
    results = editor.add_node(Op::attention, {vq, vk, vv}, attrs);
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

std::map<std::string, std::vector<float>> run(const GraphPtr& region, const KernelCode& code,
                                              const Target& target, const Tensors& inputs,
                                              int threads) {
  Jit jit(target, {.threads = 1});
  jit.add({{"k", "", [&](Emitter& e) { code.emit(e, "k"); }}});
  std::vector<std::unique_ptr<GuardedBuffer>> buffers;
  std::vector<void*> pointers;
  auto add = [&](const Type& type) {
    buffers.push_back(std::make_unique<GuardedBuffer>(static_cast<size_t>(type.bytes())));
    pointers.push_back(buffers.back()->data());
  };
  for (int32_t id : region->inputs()) {
    add(region->node(id).types[0]);
    const std::vector<double>& data = inputs.at(region->input_name(id)).data;
    for (size_t i = 0; i < data.size(); ++i)
      buffers.back()->as<float>()[i] = static_cast<float>(data[i]);
  }
  for (const Output& output : region->outputs()) {
    add(region->type(output.value));
    for (float& x : buffers.back()->as<float>()) x = NAN;
  }
  std::vector<Buffer> scratch;
  for (int i = 0; i < threads; ++i) scratch.emplace_back(static_cast<size_t>(code.scratch_bytes));
  Workers(threads).parallel_tiles(code.tiles, [&](int64_t first, int64_t last, int worker) {
    jit.kernel("k")(pointers.data(), first, last, scratch[worker].data());
  });
  std::map<std::string, std::vector<float>> results;
  for (size_t o = 0; o < region->outputs().size(); ++o) {
    auto& buffer = buffers[region->inputs().size() + o];
    EXPECT_FALSE(buffer->overrun());
    results[region->outputs()[o].name].assign(buffer->as<float>().begin(),
                                              buffer->as<float>().end());
  }
  return results;
}

void expect_close(const std::vector<float>& got, const std::vector<double>& want, const Case& c,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  // Results that are all tiny count as they are, but their scores are rounded as large numbers are;
  // in saturated rows gradients cancel that are as large as the shifted keys.
  // Gradients are as small as an unusual scale makes them.
  double largest = c.shift < 0 || c.scale ? 0 : 1 + c.shift * std::sqrt(static_cast<double>(c.d));
  for (double x : want) largest = std::max(largest, std::abs(x));
  double tolerance = (c.shift < 0 ? 8e-5 : 2e-5) * largest;
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], want[i], tolerance) << what << " element " << i;
}

class Attention : public testing::TestWithParam<Case> {};

TEST_P(Attention, ForwardMatchesTheInterpreter) {
  GraphPtr region = region_of(GetParam(), false);
  Tensors inputs = random_inputs(*region, GetParam()), want = interpret(*region, inputs);
  for (const Target& target : runnable_targets()) {
    KernelCode code = attention_kernel(*region, target);
    auto one = run(region, code, target, inputs, 1), two = run(region, code, target, inputs, 2);
    for (const auto& [name, values] : one) {
      expect_close(values, want.at(name).data, GetParam(), target.name + " output " + name);
      EXPECT_EQ(0, std::memcmp(values.data(), two.at(name).data(), values.size() * 4)) << name;
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
    KernelCode code = attention_backward_kernel(*region, target);
    auto one = run(region, code, target, inputs, 1), two = run(region, code, target, inputs, 2);
    for (const auto& [name, values] : one) {
      expect_close(values, want.at(name).data, GetParam(), target.name + " output " + name);
      EXPECT_EQ(0, std::memcmp(values.data(), two.at(name).data(), values.size() * 4)) << name;
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
    auto all = run(both, attention_backward_kernel(*both, target), target, inputs, 1);
    for (const GraphPtr& region : {grad_region, stat_region})
      for (const auto& [name, values] :
           run(region, attention_backward_kernel(*region, target), target, inputs, 1))
        EXPECT_EQ(0, std::memcmp(values.data(), all.at(name).data(), values.size() * 4)) << name;
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
    Value r = editor.input("rows", f32({c.B, c.H, 2, c.T}));
    editor.output("map", editor.add(Op::attention_map, {q, k, r}, attrs));
    const GraphPtr region = editor.finish();
    const Tensors inputs = {
        {"q", forward_inputs.at("q")}, {"k", forward_inputs.at("k")}, {"rows", rows}};
    const HostTensor want = interpret(*region, inputs).at("map");
    EXPECT_EQ(want.shape()[2], map_cells(c.T, side).count());
    EXPECT_LE(want.shape()[3], side);
    for (const Target& target : runnable_targets()) {
      const KernelCode code = attention_map_kernel(*region, target);
      auto one = run(region, code, target, inputs, 1), two = run(region, code, target, inputs, 2);
      expect_close(one.at("map"), want.data, c, target.name + fmt::format(" side {}", side));
      EXPECT_EQ(0, std::memcmp(one.at("map").data(), two.at("map").data(), want.data.size() * 4));
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
INSTANTIATE_TEST_SUITE_P(Softmax1, Attention,
                         testing::Values(Case{2, 13, 4, 2, 6, true, 16, 0, kSoftmax1},
                                         Case{1, 70, 2, 1, 20, true, 32, 0, kSoftmax1},
                                         Case{2, 9, 2, 1, 8, false, 32, 21, kSoftmax1},
                                         Case{1, 1, 1, 1, 2, true, 16, 0, kSoftmax1, -30},
                                         Case{2, 13, 4, 2, 6, true, 16, 0, kSoftmax1, -30},
                                         Case{2, 9, 2, 1, 8, false, 32, 21, kSoftmax1, 40}));

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

// Beside the zero that is added every exponential underflows: the head gives nothing and its
// gradients are zero. What its weights are in relation to each other is still known.
TEST(AttentionOfSoftmax1, SwitchedOffIsZero) {
  Case c{1, 21, 2, 1, 6, true, 16, 0, kSoftmax1, -500};
  Target target = runnable_targets().back();
  GraphPtr forward = region_of(c, false), backward = region_of(c, true);
  Tensors inputs = random_inputs(*backward, c);
  auto results = run(forward, attention_kernel(*forward, target), target, inputs, 1);
  EXPECT_THAT(results.at("a"), testing::Each(0.f));
  for (const auto& [input, output] : {std::pair{"out", "a"}, {"rows", "b"}})
    inputs[input].data.assign(results.at(output).begin(), results.at(output).end());
  const Tensors want = interpret(*backward, inputs);
  results = run(backward, attention_backward_kernel(*backward, target), target, inputs, 1);
  for (const char* gradient : {"a", "b", "c"})
    EXPECT_THAT(results.at(gradient), testing::Each(0.f)) << gradient;
  for (const char* statistic : {"d", "e", "f", "g", "h"})
    expect_close(results.at(statistic), want.at(statistic).data, c, statistic);
  EXPECT_THAT(results.at("i"), testing::Each(0.f)) << "row sum";
}

}  // namespace
}  // namespace weir
