#include "codegen/loss_head/loss_head.h"

#include <gmock/gmock.h>

#include <cmath>

#include "codegen/kernel_test.h"
#include "codegen/phases_test_util.h"
#include "ir/edit.h"
#include "support/error.h"
#include "testing/random_tensor.h"
#include "testing/run_op.h"

namespace weir::test {
namespace {

struct Sizes {
  int64_t tokens, vocabulary, width;
  double cap = 0;
};

std::vector<Type> operand_types(const Sizes& s) {
  return {f32({s.tokens, s.width}), f32({s.vocabulary, s.width}), i32({s.tokens}), f32({})};
}

/// The op with the wanted results as outputs out0, out1, out2.
GraphPtr head(const Sizes& s, Op op, const std::vector<int32_t>& wanted) {
  GraphEditor editor("region", Stage::lowered);
  std::vector<Value> inputs;
  for (const Type& type : operand_types(s))
    inputs.push_back(editor.input(fmt::format("in{}", inputs.size()), type));
  const Attrs attrs = s.cap != 0 ? Attrs{{"cap", s.cap}} : Attrs{};
  const std::vector<Value> results = editor.add_node(op, inputs, attrs);
  for (int32_t result : wanted) editor.output(fmt::format("out{}", result), results[result]);
  return editor.finish();
}
GraphPtr gradient_head(const Sizes& s) { return head(s, Op::linear_cross_entropy_grad, {0, 1, 2}); }

/// Every seventh target is ignored.
Tensors random_operands(const Sizes& s, uint64_t seed) {
  const std::vector<Type> types = operand_types(s);
  Tensors inputs = {{"in0", random_tensor(types[0], -1, 1, seed)},
                    {"in1", random_tensor(types[1], -1, 1, seed + 1)},
                    {"in2", random_tensor(types[2], 0, static_cast<double>(s.vocabulary) - 1, 7)},
                    {"in3", scalar(0.125)}};
  for (size_t i = 3; i < inputs["in2"].data.size(); i += 7) inputs["in2"].data[i] = -100;
  return inputs;
}

std::vector<Sizes> awkward_sizes() {
  return {{1, 1, 1},        {1, 67, 6},       {5, 1, 6},      {37, 67, 6},
          {64, 65, 128},    {33, 31, 17},     {83, 257, 48},  {16, 523, 5},
          {37, 67, 6, 0.7}, {83, 257, 48, 3}, {1, 1, 1, 0.1}, {33, 31, 17, 50}};
}

std::string describe(const Sizes& s, const Target& target) {
  return fmt::format("{} tokens, vocabulary {}, width {}, cap {} on {}", s.tokens, s.vocabulary,
                     s.width, s.cap, target.name);
}

TEST(LossHead, LossAndGradientsAgreeWithTheInterpreter) {
  for (const Target& target : runnable_targets())
    for (const Sizes& s : awkward_sizes()) {
      const GraphPtr region = gradient_head(s);
      const Tensors inputs = random_operands(s, 1);
      const PhasesRunner run(region, make_loss_head_kernel(region, target), target);
      const Tensors one = run(inputs, 1);
      EXPECT_TRUE(close(one, interpret(*region, inputs), {.relative = 1e-4, .absolute = 1e-6}))
          << describe(s, target);
      EXPECT_TRUE(close(run(inputs, 2), one, {.relative = 0})) << describe(s, target);
    }
}

TEST(LossHead, ChunksAndVectorWidthsLeaveTheBitsAlone) {
  const Sizes s = {83, 67, 19};
  const GraphPtr region = gradient_head(s);
  const Tensors inputs = random_operands(s, 5);
  Tensors expected;
  for (const Target& target : runnable_targets())
    for (int64_t chunk : {0, 16, 48, 64}) {
      const KernelPhases phases = make_loss_head_kernel(region, target, chunk);
      const Tensors actual = PhasesRunner(region, phases, target)(inputs, 2);
      if (expected.empty()) {
        expected = actual;
        EXPECT_TRUE(
            close(actual, interpret(*region, inputs), {.relative = 1e-4, .absolute = 1e-6}));
      }
      EXPECT_TRUE(close(actual, expected, {.relative = 0})) << target.name << " by " << chunk;
    }
}

TEST(LossHead, AnyPartOfTheResults) {
  const Sizes s = {41, 29, 23};
  const Tensors inputs = random_operands(s, 9);
  for (const Target& target : runnable_targets()) {
    const auto run = [&](const GraphPtr& region) {
      return PhasesRunner(region, make_loss_head_kernel(region, target, 32), target)(inputs);
    };
    const Tensors all = run(gradient_head(s));
    for (const GraphPtr& region :
         {head(s, Op::linear_cross_entropy, {0}), head(s, Op::linear_cross_entropy_grad, {0}),
          head(s, Op::linear_cross_entropy_grad, {1}), head(s, Op::linear_cross_entropy_grad, {2}),
          head(s, Op::linear_cross_entropy_grad, {2, 1})})
      for (const auto& [name, value] : run(region))
        EXPECT_TRUE(close(value, all.at(name), {.relative = 0})) << target.name << " " << name;
  }
}

TEST(LossHead, IgnoredTargetsCountForNothing) {
  const Sizes s = {21, 19, 8};
  const GraphPtr region = gradient_head(s);
  Tensors inputs = random_operands(s, 2);
  for (double& target : inputs["in2"].data) target = -1;
  for (const Target& target : runnable_targets()) {
    const Tensors results =
        PhasesRunner(region, make_loss_head_kernel(region, target, 16), target)(inputs);
    for (const auto& [name, tensor] : results)
      for (double value : tensor.data) EXPECT_EQ(value, 0) << name;
  }
}

TEST(LossHead, ATargetOutsideTheVocabularyGivesNaN) {
  const Sizes s = {20, 19, 8};
  const GraphPtr region = gradient_head(s);
  Tensors inputs = random_operands(s, 3);
  for (const double wrong : {19.0, 2147483647.0}) {
    inputs["in2"].data[4] = wrong;
    for (const Target& target : runnable_targets()) {
      const Tensors results =
          PhasesRunner(region, make_loss_head_kernel(region, target), target)(inputs);
      EXPECT_TRUE(std::isnan(results.at("out0").data[0]));
      for (int64_t i = 0; i < s.tokens; ++i)
        for (int64_t d = 0; d < s.width; ++d)
          EXPECT_EQ(std::isnan(results.at("out1").at({i, d})), i == 4) << i;
    }
  }
}

TEST(LossHead, LargeLogitsNeitherOverflowNorVanish) {
  const Sizes s = {18, 40, 4};
  const GraphPtr region = gradient_head(s);
  Tensors inputs = random_operands(s, 4);
  for (double& x : inputs["in0"].data) x = std::round(x * 8) * 64;
  for (double& w : inputs["in1"].data) w = std::round(w * 8) / 2;
  for (const Target& target : runnable_targets()) {
    const PhasesRunner run(region, make_loss_head_kernel(region, target), target);
    EXPECT_TRUE(
        close(run(inputs), interpret(*region, inputs), {.relative = 1e-5, .absolute = 1e-6}));
    Tensors bad = inputs;
    bad["in0"].data[2 * 4] = std::nan("");
    const Tensors results = run(bad);
    EXPECT_TRUE(std::isnan(results.at("out0").data[0]));
    EXPECT_TRUE(std::isnan(results.at("out1").at({2, 0})));
    EXPECT_FALSE(std::isnan(results.at("out1").at({1, 0})));
  }
}

/// The packed weights are too large to keep, and a small cache makes several tiles of rows.
TEST(LossHead, LargeVocabulary) {
  const Sizes s = {34, 32771, 130};
  Target target = runnable_targets().back();
  target.l2_bytes = 16 << 10;
  const GraphPtr region = gradient_head(s);
  const Tensors inputs = random_operands(s, 6);
  const KernelPhases phases = make_loss_head_kernel(region, target, 32);
  EXPECT_LT(phases.workspace_bytes, int64_t{5} << 20);
  const PhasesRunner run(region, phases, target);
  EXPECT_TRUE(
      close(run(inputs, 2), interpret(*region, inputs), {.relative = 1e-4, .absolute = 1e-6}));
}

TEST(LossHead, ChunksFollowFromTheVocabularyAlone) {
  EXPECT_EQ(loss_head_chunk(50257), 1024);
  EXPECT_EQ(loss_head_chunk(131072), 448);
  EXPECT_EQ(loss_head_chunk(65), 64512);
  EXPECT_EQ(loss_head_chunk(8192), 1024);
  EXPECT_EQ(loss_head_chunk(int64_t{1} << 30), 16);
  EXPECT_EQ(loss_head_chunk(50257, int64_t{64} << 20), 320) << "where memory is short";
  // GPT-2's vocabulary: the workspace holds the logits of one chunk, whatever the number of tokens.
  const Target target = parse_target("x86-64-v4");
  const GraphPtr region = gradient_head({65536, 50257, 768});
  const KernelPhases phases = make_loss_head_kernel(region, target);
  EXPECT_LT(phases.workspace_bytes, int64_t{224} << 20);
  EXPECT_LE(phases.codes.size(), 7u);
  EXPECT_GT(phases.runs.size(), 64u * 4);
}

TEST(LossHead, OtherTypesAreAUserError) {
  const GraphPtr region =
      op_graph(Op::linear_cross_entropy,
               {{DType::bf16, {4, 6}}, {DType::bf16, {5, 6}}, i32({4}), {DType::bf16, {}}});
  try {
    make_loss_head_kernel(region, parse_target("x86-64-v3"));
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(),
                testing::HasSubstr("an operand is bf16[4,6], but the compiled loss takes f32"));
  }
}

}  // namespace
}  // namespace weir::test
