#include "models/single_location.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "interpret/interpret.h"
#include "passes/autodiff.h"
#include "support/error.h"
#include "testing/error_of.h"
#include "testing/random_tensor.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kRuns = 3, kTokens = 4, kDimension = 7, kDirections = 2, kHeads = 3;

SingleLocationModel small_single_location(HeadActivation activation, HeadBiases biases) {
  return {.runs = kRuns,
          .tokens = kTokens,
          .dimension = kDimension,
          .directions = kDirections,
          .heads = kHeads,
          .points = 2,
          .activation = activation,
          .biases = biases,
          .bias_rate = 0.5};
}

Tensors inputs_of(const Graph& graph) {
  Tensors inputs = test::random_inputs(graph, 5);
  inputs.at("step").data = {12};
  inputs.at("random_key").data = {1, -2, 3};
  inputs.at("random_key").data.resize(inputs.at("loss_sum").data.size());
  inputs.at("law.low").data = {0, 0.25};
  inputs.at("law.high").data = {0.25, 2};
  return inputs;
}

/// By the definition, of scores [H][L].
std::vector<double> weights_of(HeadActivation activation,
                               const std::vector<std::vector<double>>& scores,
                               const std::vector<double>& bias) {
  std::vector<double> a(kTokens);
  double joint = 0;
  for (size_t h = 0; h < scores.size(); ++h)
    for (double score : scores[h]) joint += std::exp(score - bias[h]);
  for (size_t h = 0; h < scores.size(); ++h) {
    double sum = 0;
    for (double score : scores[h]) sum += std::exp(score - bias[h]);
    for (size_t l = 0; l < a.size(); ++l) {
      const double top = std::exp(scores[h][l] - bias[h]);
      if (activation == HeadActivation::kSoftmax) a[l] += top / sum / kHeads;
      if (activation == HeadActivation::kSoftmax1) a[l] += top / (1 + sum);
      if (activation == HeadActivation::kBayesSoftmax) a[l] += top / joint;
    }
  }
  return a;
}

class SingleLocation : public testing::TestWithParam<HeadActivation> {};

TEST_P(SingleLocation, HasTheLossOfItsDefinition) {
  const GraphPtr graph =
      single_location_step(small_single_location(GetParam(), HeadBiases::kTrained));
  const Tensors inputs = inputs_of(*graph);
  const auto [outputs, probes, v] = interpret_all(
      *graph, inputs,
      {"sample.x", "sample.location", "sample.theta", "weights", "losses", "order.m", "order.r"});
  double total = 0;
  for (int64_t s = 0; s < kRuns; ++s) {
    std::vector<std::vector<double>> scores(kHeads, std::vector<double>(kTokens));
    std::vector<double> bias(kHeads);
    for (int64_t h = 0; h < kHeads; ++h) {
      if (has_bias(GetParam())) bias[static_cast<size_t>(h)] = inputs.at("bias").at({s, h});
      for (int64_t l = 0; l < kTokens; ++l)
        for (int64_t i = 0; i < kDimension; ++i)
          scores[static_cast<size_t>(h)][static_cast<size_t>(l)] +=
              v.at("sample.x").at({s, l, i}) * inputs.at("keys").at({s, h, i});
    }
    const std::vector<double> a = weights_of(GetParam(), scores, bias);
    double loss = 0;
    for (int64_t i = 0; i < kDimension; ++i) {
      double error = 0;
      for (int64_t l = 0; l < kTokens; ++l)
        error += (v.at("sample.location").at({s, 0, l}) - a[static_cast<size_t>(l)]) *
                 v.at("sample.x").at({s, l, i});
      loss += error * error / kDimension;
    }
    for (int64_t l = 0; l < kTokens; ++l)
      EXPECT_NEAR(v.at("weights").at({s, 0, l}), a[static_cast<size_t>(l)], 1e-12);
    EXPECT_NEAR(v.at("losses").at({s}), loss, 1e-12);
    EXPECT_NEAR(outputs.at("loss_sum").at({s}), loss + inputs.at("loss_sum").at({s}), 1e-12);
    total += loss;
    for (int64_t h = 0; h < kHeads; ++h) {
      double m = 0, r = 0;
      for (int64_t i = 0; i < kDimension; ++i) {
        m += inputs.at("keys").at({s, h, i}) * inputs.at("directions").at({1, i});
        r += inputs.at("keys").at({s, h, i}) * inputs.at("keys").at({s, 2, i});
      }
      EXPECT_NEAR(v.at("order.m").at({s, h, 1}), m, 1e-12);
      EXPECT_NEAR(v.at("order.r").at({s, h, 2}), r, 1e-12);
    }
  }
  EXPECT_NEAR(outputs.at("loss").data[0], total, 1e-12);
  EXPECT_EQ(outputs.at("step").data[0], 13);
}

TEST_P(SingleLocation, HasTheGradientOfItsLoss) {
  for (HeadBiases biases : {HeadBiases::kFixed, HeadBiases::kTrained, HeadBiases::kTiedToNorm}) {
    const GraphPtr graph = single_location_step(small_single_location(GetParam(), biases));
    const bool trained = has_bias(GetParam()) && biases == HeadBiases::kTrained;
    std::vector<std::string> wrt = {"keys"};
    if (trained) wrt.emplace_back("bias");
    const Tensors inputs = inputs_of(*graph);
    const Tensors outputs = interpret_all(*differentiate(graph, {.wrt = wrt}), inputs).outputs;
    for (const std::string& name : wrt) {
      double largest = 0;
      for (size_t i = 0; i < inputs.at(name).data.size(); ++i) {
        const auto loss_at = [&](double change) {
          Tensors changed = inputs;
          changed.at(name).data[i] += change;
          return interpret_all(*graph, changed).outputs.at("loss").data[0];
        };
        const double slope = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5;
        // A trained bias has its rate in its gradient.
        const double factor = name == "bias" ? 0.5 : 1;
        EXPECT_NEAR(outputs.at("grad." + name).data[i], factor * slope, 1e-8) << name << i;
        largest = std::max(largest, std::abs(slope));
      }
      EXPECT_GT(largest, 1e-3) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Activations, SingleLocation, testing::ValuesIn(kHeadActivations),
                         [](const auto& info) {
                           std::string name(activation_name(info.param));
                           std::erase(name, '-');
                           return name;
                         });

TEST(SingleLocationSamples, AreDrawnAfreshEachStepAndByRunAlone) {
  SingleLocationModel model = small_single_location(HeadActivation::kSoftmax, HeadBiases::kFixed);
  const auto samples = [&](const Tensors& inputs) {
    return interpret_all(*single_location_step(model), inputs, {"sample.x"}).values.at("sample.x");
  };
  Tensors inputs = inputs_of(*single_location_step(model));
  const HostTensor all = samples(inputs);
  inputs.at("step").data[0] += 1;
  EXPECT_NE(all.data, samples(inputs).data);
  model.runs = 1;
  Tensors alone = inputs_of(*single_location_step(model));
  for (const char* shared : {"directions", "law.points"}) alone.at(shared) = inputs.at(shared);
  const HostTensor first = samples(alone);
  EXPECT_TRUE(std::equal(first.data.begin(), first.data.end(), all.data.begin()));
}

TEST(SingleLocationSamples, FollowTheLaw) {
  // 4,000 runs are as many samples. Directions and points are made to show theta and location.
  SingleLocationModel model = small_single_location(HeadActivation::kSoftmax, HeadBiases::kFixed);
  model.runs = 4000;
  GraphPtr graph = single_location_step(model);
  Tensors inputs = test::random_inputs(*graph, 5);
  inputs.at("step").data = {1};
  for (size_t s = 0; s < 4000; ++s) inputs.at("random_key").data[s] = static_cast<double>(s * 977);
  inputs.at("law.low").data = {0, 0.25};
  inputs.at("law.high").data = {0.25, 2};
  inputs.at("law.points").data = {100, 0, 0, -100};
  inputs.at("directions") = zeros(f32({kDirections, kDimension}));
  inputs.at("directions").data[0] = inputs.at("directions").data[kDimension + 1] = 1;
  const auto v =
      interpret_all(*graph, inputs, {"sample.x", "sample.location", "sample.theta"}).values;
  double first_point = 0;
  std::vector<double> location(kTokens);
  for (int64_t s = 0; s < model.runs; ++s) {
    const bool is_first = v.at("sample.theta").at({s, 0}) == 100;
    EXPECT_EQ(v.at("sample.theta").at({s, 1}), is_first ? 0 : -100);
    first_point += is_first;
    for (int64_t l = 0; l < kTokens; ++l) {
      const double here = v.at("sample.location").at({s, 0, l});
      location[static_cast<size_t>(l)] += here;
      // Only the hidden token is far out, along the direction of its point.
      EXPECT_LT(std::abs(v.at("sample.x").at({s, l, 0}) - (is_first ? 100 * here : 0)), 7);
      EXPECT_LT(std::abs(v.at("sample.x").at({s, l, 1}) + (is_first ? 0 : 100 * here)), 7);
    }
  }
  EXPECT_NEAR(first_point, 1000, 4 * std::sqrt(750));
  for (double count : location) EXPECT_NEAR(count, 1000, 4 * std::sqrt(750));
  model.points = 0;  // Gaussian
  graph = single_location_step(model);
  Tensors gaussian = test::random_inputs(*graph, 5);
  gaussian.at("step").data = {1};
  gaussian.at("random_key") = inputs.at("random_key");
  gaussian.at("law.scales").data = {3, 0.5};
  const HostTensor theta =
      interpret_all(*graph, gaussian, {"sample.theta"}).values.at("sample.theta");
  double squares[2] = {};
  for (int64_t s = 0; s < model.runs; ++s)
    for (int64_t f = 0; f < 2; ++f) squares[f] += std::pow(theta.at({s, f}), 2) / 4000;
  EXPECT_NEAR(squares[0], 9, 9 * 4 * std::sqrt(2.0 / 4000));
  EXPECT_NEAR(squares[1], 0.25, 0.25 * 4 * std::sqrt(2.0 / 4000));
}

TEST(SingleLocationModel, NamesEverythingThatIsOutOfRange) {
  const std::string message = test::error_of([] {
    single_location_step({.runs = 0, .tokens = 1, .dimension = 2, .directions = 3, .heads = 0});
  });
  EXPECT_THAT(message, AllOf(HasSubstr("0 runs are asked for, but at least 1"),
                             HasSubstr("1 tokens are asked for, but at least 2"),
                             HasSubstr("0 heads are asked for"),
                             HasSubstr("3 orthonormal directions do not fit into 2 dimensions")));
  EXPECT_THAT(test::error_of([] { single_location_step({.tokens = 3, .dimension = 1 << 30}); }),
              HasSubstr("more than 2^31 numbers"));
}

}  // namespace
}  // namespace weir
