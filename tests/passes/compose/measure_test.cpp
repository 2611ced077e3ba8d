#include "passes/compose/measure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "interpret/interpret.h"
#include "models/llama.h"
#include "passes/pipeline.h"
#include "passes/plan_memory.h"
#include "support/error.h"
#include "testing/error_of.h"
#include "testing/expect_close.h"
#include "testing/random_tensor.h"

namespace weir {
namespace {

using test::error_of;
using ::testing::HasSubstr;

constexpr int64_t kTokens = 5;

GraphPtr model(int64_t batch) {
  ModelConfig config{.name = "small",
                     .layers = 2,
                     .d_model = 8,
                     .heads = 4,
                     .kv_heads = 2,
                     .d_head = 2,
                     .d_ff = 6,
                     .vocabulary = 7};
  return build_llama(config, batch, kTokens).graph;
}

BatchPrograms programs(int64_t batch, int64_t parts, const std::vector<std::string>& requests,
                       const std::string& loss = "loss") {
  const std::vector<GraphPtr> all =
      run_pipeline(
          model(batch),
          {.probes = requests,
           .compose = {.purpose = Purpose::measure, .parts = parts, .returns_loss = !loss.empty()},
           .stop = Stage::instrumented})
          .programs;
  if (all.size() == 1) return {all[0], nullptr, nullptr, nullptr};
  return {nullptr, all.at(0), all.at(1), all.at(2)};
}

const std::vector<std::string> kRequests = {
    "blocks.*.attn.hook_v.grad : batch_sum, norm(feature)",
    "blocks.*.attn.hook_v.grad : batch_sum, norm(head,feature)",
    "blocks.*.hook_resid_p*.grad : batch_sum, norm(feature)",
    "blocks.*.hook_resid_post : norm(feature), mean(batch)",
    "blocks.*.hook_resid_mid : norm(feature), slice(token,0,1), max(batch)",
    "blocks.*.attn.hook_pattern : column_mass, mean(batch)",
    "blocks.*.attn.hook_pattern : sink_column(1), mean(query)",
    "model.norm.weight : norm(axis0)"};

TEST(MeasurePrograms, PartsEqualTheWholeBatch) {
  BatchPrograms whole = programs(6, 1, kRequests), split = programs(2, 3, kRequests);
  ASSERT_EQ(whole.in_order().size(), 1);
  ASSERT_EQ(split.in_order().size(), 3);
  Tensors inputs = test::random_inputs(*whole.step, 3, -1, 1);
  inputs["loss_scale"] = scalar(1.0 / 30);
  Interpretation expected = interpret_all(*whole.step, inputs);
  Tensors state;
  std::map<std::string, std::vector<double>> values;
  for (const GraphPtr& program :
       {split.prepare, split.micro, split.micro, split.micro, split.finish}) {
    static int64_t part = 0;
    Tensors given;
    for (int32_t id : program->inputs()) {
      const std::string& name = program->input_name(id);
      const Type& type = program->node(id).types[0];
      given[name] = state.contains(name)    ? state[name]
                    : inputs.contains(name) ? inputs[name]
                                            : zeros(type);
      if (given[name].type == type) continue;
      const auto begin = given[name].data.begin() + part * type.elements();
      given[name] = {type, {begin, begin + type.elements()}};
    }
    part += program == split.micro;
    Interpretation result = interpret_all(*program, given);
    for (const auto& [name, value] : result.outputs) state[name] = value;
    for (const auto& [id, value] : result.probes)
      values[id].insert(values[id].end(), value.data.begin(), value.data.end());
  }
  EXPECT_NEAR(state.at("loss").data[0], expected.outputs.at("loss").data[0], 1e-12);
  EXPECT_EQ(values.size(), expected.probes.size());
  EXPECT_EQ(values.size(), 2 * 8 + 1);
  for (const auto& [id, value] : expected.probes) {
    ASSERT_EQ(values[id].size(), value.data.size()) << id;
    for (size_t i = 0; i < value.data.size(); ++i)
      EXPECT_NEAR(values[id][i], value.data[i], 1e-12) << id;
  }
}

TEST(MeasurePrograms, EqualPartialSumsShareAnAccumulator) {
  BatchPrograms split = programs(2, 3, kRequests);
  std::vector<std::string> accumulators;
  for (int32_t id : split.prepare->inputs())
    if (split.prepare->input_name(id).find(".grad:") != std::string::npos)
      accumulators.push_back(split.prepare->input_name(id));
  // Of each layer v, for both of its norms, and the residual stream before it; after the last.
  EXPECT_EQ(accumulators.size(), 2 + 2 + 1);
}

// No kernel makes a value of the shape of a weight, and none reads the embedding's ids backwards.
TEST(MeasurePrograms, ComputeNoGradientOfAWeight) {
  for (int64_t parts : {1, 2}) {
    BatchPrograms all = programs(2, parts, kRequests);
    GraphPtr planned = run_pipeline(parts == 1 ? all.step : all.micro, {}).graph;
    std::vector<Shape> weights;
    for (int32_t id : planned->inputs())
      if (planned->node(id).types[0].rank() == 2 && planned->node(id).attrs.get_bool("state"))
        weights.push_back(planned->node(id).types[0].shape);
    ASSERT_GT(weights.size(), 10);
    int products = 0;
    for (const Node& node : planned->nodes()) {
      if (node.op != Op::kernel) continue;
      EXPECT_NE(node.attrs.get_string("schedule"), "embedding_grad");
      products += node.attrs.get_string("schedule") == "matmul";
      for (const Type& type : node.types)
        EXPECT_EQ(std::count(weights.begin(), weights.end(), type.shape), 0) << to_string(type);
    }
    // Seven a layer, six of them backwards: layer 0 stops at the residual stream before it, which
    // is probed, and so needs all seven.
    EXPECT_EQ(products, 2 * 7 + 2 * 7);
  }
}

TEST(MeasurePrograms, BackwardStopsAtTheLowestProbe) {
  BatchPrograms all = programs(2, 1, {"blocks.1.hook_resid_mid.grad : batch_sum, norm(feature)"});
  GraphPtr planned = run_pipeline(all.step, {}).graph;
  int products = 0;
  for (const Node& node : planned->nodes())
    if (node.op == Op::kernel) {
      products += node.attrs.get_string("schedule") == "matmul";
      EXPECT_NE(node.attrs.get_string("schedule"), "attention_grad");
    }
  EXPECT_EQ(products, 2 * 7 + 3);
}

TEST(MeasurePrograms, StatisticsComeFromTheBackwardKernel) {
  for (int64_t parts : {1, 2}) {
    BatchPrograms all = programs(2, parts, kRequests);
    GraphPtr planned = run_pipeline(parts == 1 ? all.step : all.micro, {}).graph;
    std::set<std::string> schedules;
    for (const Node& node : planned->nodes())
      if (node.op == Op::kernel) schedules.insert(node.attrs.get_string("schedule"));
    EXPECT_TRUE(schedules.contains("attention_grad"));
    EXPECT_FALSE(schedules.contains("attention_stats"));
  }
}

TEST(MeasurePrograms, WithoutALossOnlyWhatProbesNeed) {
  BatchPrograms all = programs(2, 1, {"blocks.0.attn.hook_pattern : slice(head,1,2)"}, "");
  GraphPtr planned = run_pipeline(all.step, {}).graph;
  EXPECT_TRUE(planned->outputs().empty());
  int products = 0;
  for (const Node& node : planned->nodes())
    products += node.op == Op::kernel && node.attrs.get_string("schedule") == "matmul";
  EXPECT_EQ(products, 4);  // q, k, v for the log-sum-exp, and the weights of one head
}

TEST(MeasurePrograms, ListWhatCannotBeMeasured) {
  EXPECT_THAT(error_of([] { programs(2, 1, {"model.norm.weight.grad"}); }),
              HasSubstr("model.norm.weight.grad:raw is the gradient of a weight, which a "
                        "measurement does not compute."));
  EXPECT_THAT(error_of([] { programs(2, 3, {"blocks.0.hook_resid_pre : slice(batch,0,1)"}); }),
              HasSubstr("blocks.0.hook_resid_pre:slice(batch,0,1) takes some sequences of the "
                        "batch, but the batch is computed in 3 parts."));
}

}  // namespace
}  // namespace weir
