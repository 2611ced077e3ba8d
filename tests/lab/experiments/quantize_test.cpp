#include "lab/experiments/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "lab/experiments/quantize_numbers.h"
#include "lab/reference_model.h"
#include "testing/error_of.h"

namespace weir {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The small model of tests/reference/quantize_reference.py, whose first token has an outlier.
struct Case {
  Tensors tensors = test::read_reference("quantize");
  json metadata = test::read_reference_metadata("quantize");
  json expected =
      json::parse(std::ifstream(std::string(WEIR_TEST_DATA) + "/reference/quantize.json"));
  ModelSource source = test::source_of(test::reference_config(metadata.at("config")), tensors);
  std::vector<QuantizeCorpus> corpora;
  TokenBatch calibration;

  Case() {
    const HostTensor& ids = tensors.at("tokens");
    const std::vector<int32_t> all(ids.data.begin(), ids.data.end());
    const int64_t T = ids.shape()[1] - 1, batch = metadata.at("batch").get<int64_t>();
    const auto cut = static_cast<size_t>(batch * (T + 1));
    corpora.push_back({"reference", token_batch(batch, T, std::span(all).first(cut))});
    calibration = token_batch(ids.shape()[0] - batch, T, std::span(all).subspan(cut));
  }

  QuantizeTask task(const std::vector<std::string>& arms = {}) const {
    QuantizeTask task{.arms = arms_of_names(arms)};
    task.run.cache = WEIR_TEST_CACHE;
    return task;
  }
  QuantizeResult run(const QuantizeTask& task) const {
    return QuantizeExperiment(source, corpora, calibration, task).run();
  }
};

void expect_near(const std::vector<double>& actual, const json& expected, double tolerance,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i)
    EXPECT_NEAR(actual[i], expected[i].get<double>(), tolerance) << what << ", sequence " << i;
}

void expect_reference(const Case& given, bool interpret, double tolerance) {
  QuantizeTask task = given.task();
  task.run.interpret = interpret;
  const QuantizeResult result = given.run(task);
  expect_near(result.reference[0].nats, given.expected["sequence_loss"], tolerance, "f32");
  for (size_t a = 0; a < task.arms.size(); ++a) {
    const std::string& name = task.arms[a].name;
    const json& expected = given.expected["arms"][name];
    const QuantizeOutcome& outcome = result.arms[a].corpora[0];
    expect_near(outcome.losses.nats, expected["sequence_loss"], tolerance, name);
    ASSERT_EQ(outcome.sink_exact.has_value(), expected.contains("sequence_loss_sink_exact"));
    if (outcome.sink_exact)
      expect_near(outcome.sink_exact->nats, expected["sequence_loss_sink_exact"], tolerance,
                  name + ", sink exact");
  }
}

TEST(Quantize, IsWhatPyTorchComputes) { expect_reference(Case(), false, 1e-4); }
TEST(Quantize, InterpretedIsWhatPyTorchComputes) { expect_reference(Case(), true, 1e-5); }

TEST(Quantize, ThreadsAndPartsChangeNoBit) {
  const Case given;
  QuantizeTask task = given.task({"weights-4-g32-aware", "per-token", "smooth-static"});
  task.run.threads = 1;
  const QuantizeResult one = given.run(task);
  task.run.threads = 2;
  task.run.rows = 2;
  const QuantizeResult two = given.run(task);
  for (size_t a = 0; a < task.arms.size(); ++a) {
    EXPECT_EQ(one.arms[a].corpora[0].losses.nats, two.arms[a].corpora[0].losses.nats);
    EXPECT_EQ(one.arms[a].sites.back().has_value(), two.arms[a].sites.back().has_value());
    EXPECT_EQ(one.arms[a].weights[3].whole, two.arms[a].weights[3].whole);
  }
}

TEST(Quantize, ProductsOfBytesHaveTheBitsOfTheSimulatedOnes) {
  const Case given;
  QuantizeTask task =
      given.task({"per-token", "dynamic", "static", "static-down", "smooth-static"});
  task.products = ByteProducts::never;
  const QuantizeResult simulated = given.run(task);
  task.products = ByteProducts::always;
  const QuantizeResult bytes = given.run(task);
  for (size_t a = 0; a < task.arms.size(); ++a) {
    const QuantizeOutcome &x = simulated.arms[a].corpora[0], &y = bytes.arms[a].corpora[0];
    EXPECT_EQ(x.losses.nats, y.losses.nats) << task.arms[a].name;
    EXPECT_EQ(x.sink_exact->nats, y.sink_exact->nats) << task.arms[a].name;
  }
}

TEST(Quantize, TheLargeTokenTakesTheScaleFromTheOthers) {
  const Case given;
  const QuantizeTask task = given.task({"per-token", "static", "static-down"});
  const QuantizeResult result = given.run(task);
  const size_t down = 3;  // the input of W_down of the first layer
  ASSERT_TRUE(result.parts.sites[down].mlp_down);
  EXPECT_GT(result.ranges[down].dispersion[0], 20);
  EXPECT_GT(result.ranges[down].calibrated, 20 * result.ranges[down].calibrated_without_sink);
  EXPECT_THAT(result.ranges[down].draws, ::testing::Each(::testing::Gt(0)));
  const RoundingError &token = *result.arms[0].sites[down], &tensor = *result.arms[1].sites[down];
  EXPECT_LT(token.median_row, 0.02);
  EXPECT_GT(tensor.median_row, 10 * token.median_row);
  EXPECT_GT(tensor.underflow, 5 * token.underflow);
  // The large token itself is fine, so that the error of the whole tensor says nothing.
  EXPECT_LT(tensor.whole, tensor.median_row);
  EXPECT_FALSE(result.arms[2].sites[0].has_value());
  EXPECT_GT(result.arms[1].corpora[0].sink_damage->value, 0.01);
  EXPECT_FALSE(result.arms[1].corpora[0].destroyed());
}

TEST(Quantize, RecordHasWhatIsDocumented) {
  const Case given;
  const QuantizeTask task = given.task({"weights-8", "dynamic", "static"});
  QuantizeExperiment experiment(given.source, given.corpora, given.calibration, task);
  const QuantizeResult result = experiment.run();
  const json record = json::parse(quantize_record(
      given.source.sizes, given.corpora, given.calibration, task, result, experiment.rows()));
  EXPECT_EQ(record["format"], "weir.quantize/1");
  EXPECT_EQ(record["settings"]["draw_tokens"], 9);
  EXPECT_EQ(record["settings"]["rows"], 4);
  EXPECT_EQ(record["arms"].size(), 3U);
  EXPECT_FALSE(record["arms"][0]["corpora"][0].contains("sink_damage"));
  const json& outcome = record["arms"][2]["corpora"][0];
  EXPECT_NEAR(outcome["loss"].get<double>() - outcome["loss_sink_exact"].get<double>(),
              outcome["sink_damage"]["value"].get<double>(), 1e-12);
  EXPECT_LE(outcome["sink_damage"]["low"], outcome["sink_damage"]["value"]);
  EXPECT_NEAR(outcome["perplexity"].get<double>(), std::exp(outcome["loss"].get<double>()), 1e-9);
  EXPECT_TRUE(record["arms"][0]["sites"]["error"][0].is_null());
  EXPECT_EQ(record["arms"][2]["sites"]["error"].size(), 8U);
  EXPECT_EQ(record["ranking"].size(), 2U);
}

TEST(Quantize, SaysWhatIsWrong) {
  const Case given;
  QuantizeTask task = given.task();
  task.draws = 4;
  task.sink_token = 9;
  EXPECT_EQ(test::error_of([&] { given.run(task); }),
            "[quantize] 2 problems:\n  - 5 calibration sequences cannot be cut into 4 draws.\n"
            "  - the sink token is 9, but a sequence has the tokens 0 to 8.");
  EXPECT_THAT(test::error_of([] { arms_of_names({"statik"}); }),
              HasSubstr("there is no arm 'statik'. Did you mean static"));
}

// ---- the numbers ----

TEST(QuantizeNumbers, ScalesByHand) {
  EXPECT_THAT(smooth_quant_scales({4, 9, 0, 1e-14}, {1, 4, 2, 1}, 0.5),
              ElementsAre(2, 1.5, 1, 1e-5F));
  EXPECT_THAT(activation_aware_scales({1, 4, 16}, 0.5), ElementsAre(0.5, 1, 2));
  EXPECT_EQ(static_scale({2, 6}, {1, 2}), 3.0F / 127.0F);
  EXPECT_EQ(row_dispersion({1, 2, 3, 100}), 100 / 2.5);
}

TEST(QuantizeNumbers, RangesOfDraws) {
  FeatureRanges ranges(2, 2);
  const std::vector<double> a = {9, 0}, b = {1, 2}, c = {3, 1}, mean = {2, 4};
  ranges.add(0, a.data(), b.data(), mean.data());
  ranges.add(1, c.data(), b.data(), c.data());
  EXPECT_THAT(ranges.maxima(true), ElementsAre(9, 2));
  EXPECT_THAT(ranges.maxima(false), ElementsAre(1, 2));
  EXPECT_THAT(ranges.means(), ElementsAre(2.5, 2.5));
  EXPECT_THAT(ranges.draws(), ElementsAre(9, 3));
}

TEST(QuantizeNumbers, ErrorsOfRows) {
  const RoundingError error = RowSums{{1, 4, 0}, {4, 4, 0}, 3}.result(2);
  EXPECT_EQ(error.whole, std::sqrt(5.0 / 8));
  EXPECT_EQ(error.median_row, 0.5);
  EXPECT_EQ(error.underflow, 0.5);
}

TEST(Bootstrap, IntervalsCoverAndAreRepeatable) {
  SequenceLosses a, b;
  for (int i = 0; i < 32; ++i) {
    a.nats.push_back(30 + i % 5);
    b.nats.push_back(33 + i % 5 + 0.5 * std::sin(static_cast<double>(i)));
    a.targets.push_back(10);
    b.targets.push_back(10);
  }
  const Bootstrap bootstrap(32, 1000, 7, 0.95);
  const BootstrapEstimate estimate = bootstrap.loss_difference(a, b);
  EXPECT_NEAR(estimate.value, 0.3, 0.01);
  EXPECT_LT(estimate.low, estimate.value);
  EXPECT_GT(estimate.high, estimate.value);
  // Of a mean: twice 1.96 standard errors wide.
  EXPECT_NEAR(estimate.high - estimate.low, 2 * 1.96 * 0.05 * std::sqrt(1.0 / 2 / 32), 0.006);
  const BootstrapEstimate again = Bootstrap(32, 1000, 7, 0.95).loss_difference(a, b);
  EXPECT_EQ(again.low, estimate.low);
  EXPECT_NE(Bootstrap(32, 1000, 8, 0.95).loss_difference(a, b).low, estimate.low);
  // The same sequence everywhere: no spread.
  a.nats.assign(32, 30);
  b.nats.assign(32, 31);
  EXPECT_EQ(bootstrap.loss_difference(a, b).low, bootstrap.loss_difference(a, b).high);
  EXPECT_NEAR(bootstrap.perplexity_difference(a, b).value, std::exp(3.1) - std::exp(3.0), 1e-12);
}

}  // namespace
}  // namespace weir
