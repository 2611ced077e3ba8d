#include "passes/sequence_loss.h"

#include <gmock/gmock.h>

#include <cmath>

#include "ir/builder.h"
#include "models/transformer.h"
#include "passes/pass_test_util.h"
#include "testing/error_of.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SequenceLoss, AddsUpToTheLoss) {
  for (const int64_t batch : {1, 3, 70}) {
    const GraphPtr before = build_model(test::tiny_model(), batch, 4).graph;
    const GraphPtr after = with_sequence_loss(before);
    Tensors inputs = test::random_inputs(*before, 8, -1, 1);
    for (double& id : inputs.at("tokens").data) id = std::fmod(std::abs(id), 7);
    HostTensor& targets = inputs.at("targets");
    for (double& id : targets.data) id = std::fmod(std::abs(id), 7);
    targets.data[1] = -1;  // not counted
    inputs.at("loss_scale").data[0] = 1;
    const Interpretation got = interpret_all(*after, inputs, {kSequenceLoss});
    const std::vector<double>& by_sequence = got.values.at(kSequenceLoss).data;
    ASSERT_EQ(std::ssize(by_sequence), batch);
    double sum = 0;
    for (double loss : by_sequence) sum += loss;
    EXPECT_NEAR(sum, got.outputs.at("loss").data[0], 1e-9);
  }
}

// Two sequences of three tokens, whose logits are an input.
GraphPtr given_logits() {
  Builder b("given");
  b.input("tokens", i32({2, 3}));
  const Tensor scale = b.input("loss_scale", f32({}));
  b.output("loss",
           cross_entropy(b.input("logits", f32({6, 3})), b.input("targets", i32({6})), scale));
  return b.finish();
}

TEST(Recalled, CountsTargetsWithTheLargestLogit) {
  Tensors inputs;
  inputs["tokens"] = filled(i32({2, 3}), 0);
  inputs["loss_scale"] = filled(f32({}), 1);
  inputs["logits"] = {f32({6, 3}),
                      {1, 2, 3,               // target 2: recalled
                       5, 2, 3,               // target 2: not
                       -1, -2, -3,            // target 0, negative logits: recalled
                       4, 4, 1,               // target 1, as large as another: recalled
                       9, 8, 7,               // does not count
                       std::nan(""), 0, 1}};  // of numbers that are none: not
  inputs["targets"] = {i32({6}), {2, 2, 0, 1, -1, 2}};
  const Interpretation got = interpret_all(*with_recalled(given_logits()), inputs, {kRecalled});
  EXPECT_THAT(got.values.at(kRecalled).data, ElementsAre(2, 1));
}

TEST(SequenceLoss, SaysWhatIsWrong) {
  Builder b("none");
  b.input("tokens", i32({2, 3}));
  b.output("y", b.input("x", f32({2, 3, 5})) * 2);
  const GraphPtr none = b.finish();
  for (const auto& pass : {with_sequence_loss, with_recalled})
    EXPECT_THAT(
        test::error_of([&] { pass(none); }),
        HasSubstr("[loss] the output loss of graph none is no cross entropy of 2 x 3 rows"));
}

}  // namespace
}  // namespace weir
