#include "lab/specialize/simulate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lab/specialize/limit_flow.h"
#include "testing/error_of.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::HasSubstr;

LimitModel simulated_model(HeadActivation activation = HeadActivation::kBayesSoftmax) {
  const double strengths[] = {2.0, 1.5}, weights[] = {0.5, 0.5};
  return {SignalLaw::flipped_spikes(strengths, weights), 3, activation};
}

SimulationStart simulated_start() {
  OrderParameters at;
  at.m.resize(3, 2);
  at.m << 0.6, 0.1, -0.5, 0.2, 0.1, 0.5;
  at.r = at.m * at.m.transpose();
  at.r.diagonal().array() += 0.3;
  at.b = Eigen::Vector3d(0.1, 0, -0.1);
  return {at};
}

void expect_equal_bits(const OrderParameters& a, const OrderParameters& b) {
  EXPECT_EQ(a.m, b.m);
  EXPECT_EQ(a.r, b.r);
  EXPECT_EQ(a.b, b.b);
}

TEST(Simulate, StartsAtItsOrderParameters) {
  SimulationSettings settings{.dimension = 50, .seeds = {1, 2}};
  for (HeadBiases biases : {HeadBiases::kTrained, HeadBiases::kTiedToNorm}) {
    settings.biases = biases;
    const std::vector<double> times = {0};
    const Simulation run = simulate(simulated_model(), simulated_start(), times, settings);
    ASSERT_EQ(run.points.size(), 1u);
    for (const OrderParameters& at : run.points[0].at) {
      EXPECT_LT((at.m - simulated_start().at.m).cwiseAbs().maxCoeff(), 1e-6);
      EXPECT_LT((at.r - simulated_start().at.r).cwiseAbs().maxCoeff(), 1e-6);
      EXPECT_LT((at.b - simulated_start().at.b).cwiseAbs().maxCoeff(), 1e-6);
    }
  }
}

// The deviation from the flow falls as the root of the dimension: to 0.25 from 64 to 1024.
TEST(Simulate, FollowsTheFlowAsTheDimensionGrows) {
  const std::vector<double> times = {0, 1};
  for (HeadActivation activation : kHeadActivations) {
    const LimitModel model = simulated_model(activation);
    FlowSettings flow_settings;
    flow_settings.eta_0 = 0.8;
    flow_settings.biases = HeadBiases::kTrained;
    flow_settings.rule.lattice_points = 512;
    const SimulationStart start = simulated_start();
    const Flow flow = limit_flow(model, start.at, times, flow_settings);
    const auto deviation = [&](int64_t dimension) {
      SimulationSettings settings{.dimension = dimension, .seeds = {}, .rates = {{0, 0.8}}};
      settings.biases = HeadBiases::kTrained;
      for (uint64_t seed = 1; seed <= 16; ++seed) settings.seeds.push_back(seed);
      const Simulation run = simulate(model, start, times, settings);
      double sum = 0;
      for (const OrderParameters& at : run.points[1].at)
        sum += (at.r - flow.points[1].at.r).squaredNorm() / 9 / 16;
      return std::sqrt(sum);
    };
    const double low = deviation(64), high = deviation(1024);
    EXPECT_LT(high, 0.02) << activation_name(activation);
    EXPECT_GT(high / low, 0.12) << activation_name(activation);
    EXPECT_LT(high / low, 0.45) << activation_name(activation);
  }
}

TEST(Simulate, HasEqualBitsForThreadsMeasurementsAndRunsBesideIt) {
  SimulationSettings settings{.dimension = 700, .seeds = {3, 4, 5}, .threads = 1};
  settings.biases = HeadBiases::kTrained;
  const std::vector<double> often = {0, 0.01, 0.02, 0.05}, once = {0.05};
  const auto last = [&](const std::vector<double>& times, int threads,
                        std::vector<uint64_t> seeds) {
    settings.threads = threads;
    settings.seeds = std::move(seeds);
    return simulate(simulated_model(), simulated_start(), times, settings).points.back();
  };
  const SimulationPoint plain = last(once, 1, {3, 4, 5});
  EXPECT_EQ(plain.step, 35);
  for (const SimulationPoint& other : {last(once, 2, {3, 4, 5}), last(often, 1, {3, 4, 5})})
    for (size_t s = 0; s < 3; ++s) expect_equal_bits(plain.at[s], other.at[s]);
  expect_equal_bits(plain.at[1], last(once, 2, {4}).at[0]);
  EXPECT_NE(plain.at[0].r, plain.at[1].r);
}

TEST(Simulate, KeepsTiedKeysTied) {
  SimulationSettings settings{.dimension = 40, .seeds = {1}};
  settings.tie = Eigen::Vector2d(1, -1);
  settings.biases = HeadBiases::kTiedToNorm;
  OrderParameters at;
  at.m.resize(2, 2);
  at.m << 0.4, 0.2, -0.4, -0.2;
  at.r = at.m * at.m.transpose();
  at.b = Eigen::Vector2d(0.3, 0.3);
  const std::vector<double> times = {0, 0.5};
  const Simulation run = simulate(simulated_model(), {at}, times, settings);
  const OrderParameters& end = run.points[1].at[0];
  EXPECT_EQ(end.m.row(0), -end.m.row(1));
  EXPECT_NE(end.m, run.points[0].at[0].m);
  EXPECT_NEAR(end.b[0] - end.r(0, 0) / 2, 0.3 - at.r(0, 0) / 2, 1e-6);
}

TEST(Simulate, LearnsFromRandomKeysAndReportsItsLoss) {
  SimulationSettings settings{
      .dimension = 100, .seeds = {1, 2, 3, 4}, .rates = {{0, 1.5}, {60, 0.3}}};
  settings.biases = HeadBiases::kTiedToNorm;
  SimulationStart start;
  start.at = spanned_parameters(Eigen::MatrixXd::Zero(4, 2), Eigen::VectorXd::Zero(4));
  start.random_deviation = 0.2;
  const std::vector<double> times = {0, 2, 60, 90};
  const Simulation run = simulate(simulated_model(), start, times, settings);
  EXPECT_NEAR(run.points[0].at[0].r(0, 0), 0.04, 0.02);
  EXPECT_TRUE(std::isnan(run.points[0].loss[0]));
  EXPECT_NEAR(run.points[1].loss.mean(), 2.0 / 3, 0.05);
  EXPECT_LT(run.points[3].loss.mean(), run.points[1].loss.mean() - 0.1);
  EXPECT_EQ(run.points[2].step, 4000);
  EXPECT_EQ(run.points[3].step, 4000 + 10000);
  const Estimate risk = limit_risk(simulated_model(), run.points[3].at[0], {});
  EXPECT_NEAR(run.points[3].loss[0], risk.value, 0.05);
}

TEST(Simulate, NamesEverythingThatIsWrong) {
  SimulationSettings settings{.dimension = 3, .seeds = {}, .rates = {{1, -1}}};
  const std::vector<double> times = {2, 1};
  EXPECT_THAT(
      test::error_of([&] { simulate(simulated_model(), simulated_start(), times, settings); }),
      AllOf(HasSubstr("there is no seed"), HasSubstr("time 2 is 1; times grow from 0"),
            HasSubstr("the first learning rate has to begin at time 0"),
            HasSubstr("eta_0 is -1; a positive number is needed"),
            HasSubstr("3 dimensions are too few for 2 directions and 3 heads")));
  SimulationSettings wild{.dimension = 20, .seeds = {7}, .rates = {{0, 1e30}}};
  const std::vector<double> later = {2e30};
  EXPECT_THAT(test::error_of([&] { simulate(simulated_model(), simulated_start(), later, wild); }),
              HasSubstr("an order parameter of seed 7 is not finite at time"));
}

}  // namespace
}  // namespace weir
