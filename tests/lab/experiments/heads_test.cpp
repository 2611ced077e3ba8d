#include "lab/experiments/heads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "lab/measure/measure.h"
#include "lab/reference_model.h"
#include "testing/error_of.h"

namespace weir {
namespace {

using nlohmann::json;

HeadsTask task_of(const test::ReferenceModel& model, bool interpret = false, int threads = 1) {
  HeadsTask task;
  task.options = model.task.options;
  const std::string own = "model.layers.0.self_attn.";
  Rewrites& rewrites = task.options.rewrites;
  rewrites.qk_norm = model.tensors.contains(own + "qk_norm.query");
  if (model.tensors.contains(own + "output_gate.weight"))
    rewrites.attention_gate = AttentionGate::head;
  task.run.cache = WEIR_TEST_CACHE;
  task.run.interpret = interpret;
  task.run.threads = threads;
  return task;
}

HeadsResult heads_of(const test::ReferenceModel& model, const HeadsTask& task) {
  HeadsExperiment experiment(model.source, model.batch, task);
  HeadsResult result = experiment.measure();
  experiment.prune(result);
  return result;
}

// Sets the columns of the output projection that read a head to zero.
void silence(test::ReferenceModel& model, int64_t layer, int64_t head) {
  HostTensor& weight =
      model.tensors.at(fmt::format("model.layers.{}.self_attn.o_proj.weight", layer));
  const int64_t rows = weight.shape()[0], columns = weight.shape()[1];
  const int64_t d = columns / model.source.sizes.heads;
  for (int64_t row = 0; row < rows; ++row)
    std::fill_n(weight.data.begin() + row * columns + head * d, d, 0.0);
}

double loss_of(const test::ReferenceModel& model, bool interpret) {
  HeadsTask task = task_of(model, interpret);
  task.prune = 0;
  task.ablations = {Ablation::zero};
  task.similarity = false;
  return HeadsExperiment(model.source, model.batch, task).measure().loss;
}

class Heads : public testing::TestWithParam<const char*> {};

// A head without its columns of the output projection adds nothing.
TEST_P(Heads, ZeroAblationIsAProjectionWithoutTheHead) {
  for (bool interpret : {true, false}) {
    const double bound = interpret ? 1e-12 : 2e-6;
    test::ReferenceModel model(GetParam(), "llama_base");
    const HeadsResult result = heads_of(model, task_of(model, interpret));
    EXPECT_NEAR(result.loss, loss_of(model, interpret), bound);
    double largest = 0;
    for (size_t layer = 0; layer < result.layers.size(); ++layer)
      for (size_t head = 0; head < result.layers[layer].heads.size(); ++head) {
        test::ReferenceModel without(GetParam(), "llama_base");
        silence(without, static_cast<int64_t>(layer), static_cast<int64_t>(head));
        const ChangedLoss& ablated = result.layers[layer].heads[head].ablated[0];
        EXPECT_NEAR(ablated.loss, loss_of(without, interpret), bound) << layer << '.' << head;
        EXPECT_NEAR(ablated.difference, ablated.loss - result.loss, bound);
        largest = std::max(largest, std::abs(ablated.difference));
      }
    EXPECT_GT(largest, 1e-3);
  }
}

// Each step is the best of all heads that are left, found again by projections without them.
TEST_P(Heads, PruningIsGreedy) {
  test::ReferenceModel model(GetParam(), "llama_base");
  const HeadsResult result = heads_of(model, task_of(model));
  const auto layers = static_cast<int64_t>(result.layers.size());
  const int64_t heads = model.source.sizes.heads;
  ASSERT_EQ(result.curve.size(), static_cast<size_t>(layers * heads));
  std::vector<std::pair<int64_t, int64_t>> removed;
  const auto loss_without = [&](int64_t layer, int64_t head) {
    test::ReferenceModel without(GetParam(), "llama_base");
    for (const auto& [l, h] : removed) silence(without, l, h);
    silence(without, layer, head);
    return loss_of(without, false);
  };
  for (const PrunedHead& step : result.curve) {
    double least = INFINITY;
    for (int64_t layer = 0; layer < layers; ++layer)
      for (int64_t head = 0; head < heads; ++head)
        if (std::find(removed.begin(), removed.end(), std::pair(layer, head)) == removed.end())
          least = std::min(least, loss_without(layer, head));
    EXPECT_NEAR(step.loss.loss, least, 4e-6);
    removed.emplace_back(step.layer, step.head);
  }
  std::sort(removed.begin(), removed.end());
  EXPECT_EQ(std::unique(removed.begin(), removed.end()), removed.end());
}

TEST_P(Heads, ContributionsSumToTheBranch) {
  test::ReferenceModel model(GetParam(), "llama_base");
  for (bool interpret : {true, false}) {
    HeadsTask task = task_of(model, interpret);
    task.prune = 0;
    for (const LayerHeads& layer : heads_of(model, task).layers) {
      EXPECT_LT(layer.sum_error, interpret ? 1e-13 : 2e-6);
      for (size_t h = 0; h < layer.heads.size(); ++h) {
        EXPECT_GT(layer.heads[h].norm, 0);
        EXPECT_NEAR(layer.map_similarity[h][h], 1, 1e-6);
        EXPECT_NEAR(layer.output_similarity[h][h], 1, 1e-6);
        EXPECT_EQ(layer.map_similarity[0][h], layer.map_similarity[h][0]);
      }
    }
  }
}

TEST_P(Heads, HasEqualBitsForOneAndTwoThreads) {
  test::ReferenceModel model(GetParam(), "llama_base");
  const auto record = [&](int threads) {
    const HeadsTask task = task_of(model, false, threads);
    return heads_record(model.source.sizes, model.batch, task, heads_of(model, task));
  };
  EXPECT_EQ(record(1), record(2));
}

// In f64 and in f32.
TEST_P(Heads, IsInterpretedAsItIsCompiled) {
  test::ReferenceModel model(GetParam(), "llama_base");
  const HeadsResult compiled = heads_of(model, task_of(model));
  const HeadsResult interpreted = heads_of(model, task_of(model, true));
  for (size_t l = 0; l < compiled.layers.size(); ++l)
    for (size_t h = 0; h < compiled.layers[l].heads.size(); ++h) {
      const HeadNumbers &a = compiled.layers[l].heads[h], &b = interpreted.layers[l].heads[h];
      EXPECT_NEAR(a.norm, b.norm, 1e-5 * b.norm);
      EXPECT_NEAR(a.sink_score, b.sink_score, 1e-5);
      EXPECT_NEAR(a.row_sum, b.row_sum, 1e-5);
      for (size_t k = 0; k < 2; ++k)
        EXPECT_NEAR(a.ablated[k].difference, b.ablated[k].difference, 1e-5);
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Heads,
                         testing::Values("llama_base", "llama_softmax_1", "llama_bayes_softmax",
                                         "llama_v_scale_full"),
                         [](const auto& info) { return std::string(info.param); });

TEST(HeadsTask, RefusesToPruneMoreHeadsThanThereAre) {
  test::ReferenceModel model("llama_base");
  HeadsTask task = task_of(model);
  task.prune = 1000;
  EXPECT_THAT(test::error_of([&] { HeadsExperiment(model.source, model.batch, task); }),
              testing::HasSubstr("1000"));
}

}  // namespace
}  // namespace weir
