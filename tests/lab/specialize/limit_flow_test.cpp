#include "lab/specialize/limit_flow.h"

#include <gtest/gtest.h>

#include <Eigen/Eigenvalues>

#include "lab/specialize/dormand_prince.h"
#include "lab/specialize/specialize_test_util.h"
#include "testing/error_of.h"

namespace weir {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;
using Biases = HeadBiases;

const double kStrengths[] = {2, 1.5}, kWeights[] = {0.6, 0.4};

LimitModel flipped(HeadActivation activation) {
  return {SignalLaw::flipped_spikes(kStrengths, kWeights), 2, activation};
}

RuleSettings small_rule() {
  RuleSettings rule;
  rule.method = RuleSettings::Method::kLattice;
  rule.lattice_points = 251;
  rule.shifts = 4;
  return rule;
}

// Keys [2, D] that are planted: m_0 as here, and a part of a third of it outside of the hidden
// directions, which are the first two coordinates.
MatrixXd planted_keys(int64_t D) {
  MatrixXd keys = MatrixXd::Zero(2, D);
  keys.topLeftCorner(2, 4) << 0.9, 0.1, 0.5, 0, -0.4, 0.6, 0, 0.4;
  return keys;
}

VectorXd planted_biases() { return Eigen::Vector2d(0.4, -0.2); }

// One run of online SGD on |x_e - sum_l a_l x_l|^2 / D in D dimensions: the loss of the sample
// itself, not its limit, with the derivatives of the activations written out once more.
OrderParameters trained(const LimitModel& model, int64_t D, double eta_0, double time,
                        double bias_rate, uint64_t seed) {
  Random random(seed, 0);
  MatrixXd keys = planted_keys(D);
  VectorXd biases = planted_biases();
  const auto L = model.tokens;
  const Eigen::Index H = keys.rows();
  const double rate = eta_0 / static_cast<double>(D);
  for (int64_t step = 0; step < std::llround(time / rate); ++step) {
    MatrixXd x = random_matrix(D, L, 1, random);
    const auto e = static_cast<Eigen::Index>(random.below(static_cast<uint64_t>(L)));
    x.col(e).head(2) += model.law.draw(random);
    const MatrixXd scores = keys * x;
    const VectorXd a = attention_weights(model.activation, scores, biases);
    const VectorXd by_a = -2 / static_cast<double>(D) * (x.transpose() * (x.col(e) - x * a));
    MatrixXd by_score(H, L);
    const MatrixXd tops = scores.array().exp();
    const VectorXd scale = (-biases.array()).exp();
    const double all = (scale.asDiagonal() * tops).sum();
    for (Eigen::Index h = 0; h < H; ++h) {
      VectorXd q = tops.row(h).transpose();
      switch (model.activation) {
        case HeadActivation::kSoftmax:
          q /= q.sum();
          by_score.row(h) = (q.array() * (by_a.array() - q.dot(by_a))).transpose() / double(H);
          break;
        case HeadActivation::kSoftmax1:
          q *= scale[h] / (1 + scale[h] * q.sum());
          by_score.row(h) = (q.array() * (by_a.array() - q.dot(by_a))).transpose();
          break;
        case HeadActivation::kBayesSoftmax:
          q *= scale[h] / all;
          by_score.row(h) = (q.array() * (by_a.array() - a.dot(by_a))).transpose();
          break;
      }
    }
    keys -= rate * by_score * x.transpose();
    if (has_bias(model.activation)) biases += rate * bias_rate * by_score.rowwise().sum();
  }
  return order_parameters(keys, MatrixXd::Identity(2, D), biases);
}

double distance(const OrderParameters& a, const OrderParameters& b) {
  return std::sqrt((a.m - b.m).squaredNorm() + (a.r - b.r).squaredNorm() +
                   (a.b - b.b).squaredNorm());
}

// The mean over runs from one start deviates by 1 / D and by noise of 1 / sqrt(runs D): by 0.011 to
// 0.022 here, and by 0.26 to 0.48 from the flow without the learning-rate term.
TEST(LimitFlow, IsWhatTrainingInManyDimensionsDoes) {
  constexpr int64_t D = 200, runs = 12;
  constexpr double eta_0 = 1.5, time = 1.5, bias_rate = 0.5;
  for (HeadActivation activation : kHeadActivations) {
    const LimitModel model = flipped(activation);
    FlowSettings settings;
    settings.rule = small_rule();
    settings.eta_0 = eta_0;
    settings.biases = Biases::kTrained;
    settings.bias_rate = has_bias(activation) ? bias_rate : 0;
    const OrderParameters start =
        order_parameters(planted_keys(4), MatrixXd::Identity(2, 4), planted_biases());
    const double times[] = {time};
    const OrderParameters with = limit_flow(model, start, times, settings).points[0].at;
    settings.eta_0 = 0;
    const OrderParameters without = limit_flow(model, start, times, settings).points[0].at;
    OrderParameters mean{MatrixXd::Zero(2, 2), MatrixXd::Zero(2, 2), VectorXd::Zero(2)};
    for (uint64_t seed = 0; seed < runs; ++seed) {
      const OrderParameters run = trained(model, D, eta_0, time, bias_rate, 100 + seed);
      mean.m += run.m / runs;
      mean.r += run.r / runs;
      mean.b += run.b / runs;
    }
    const double near = distance(mean, with), far = distance(mean, without);
    EXPECT_LT(near, 0.04) << activation_name(activation);
    EXPECT_GT(far, 8 * near) << activation_name(activation);
    EXPECT_GT(distance(start, with), 5 * near);
  }
}

TEST(LimitFlow, LossFallsWithoutTheLearningRateTerm) {
  for (HeadActivation activation : kHeadActivations) {
    FlowSettings settings;
    settings.rule = small_rule();
    settings.biases = Biases::kTrained;
    const OrderParameters start =
        order_parameters(planted_keys(4), MatrixXd::Identity(2, 4), planted_biases());
    const double times[] = {0, 0.5, 1, 2, 4};
    const Flow flow = limit_flow(flipped(activation), start, times, settings);
    EXPECT_EQ(flow.points[0].at.m, start.m);
    EXPECT_GT(flow.points[1].drift_error, 0);
    EXPECT_LT(flow.points[1].drift_error, 0.02);
    for (size_t i = 1; i < 5; ++i)
      EXPECT_LT(flow.points[i].loss.value, flow.points[i - 1].loss.value - 1e-3);
  }
}

// From keys in the span, where r is singular, and from small ones: r - m m^T stays semidefinite.
TEST(LimitFlow, StaysThatOfKeys) {
  Random random(41, 0);
  const MatrixXd m = random_matrix(3, 2, 0.3, random);
  for (double eta_0 : {0.0, 2.0}) {
    FlowSettings settings;
    settings.rule = small_rule();
    settings.eta_0 = eta_0;
    const double times[] = {0.1, 1, 3};
    const Flow flow = limit_flow(flipped(HeadActivation::kSoftmax1),
                                 spanned_parameters(m, VectorXd::Zero(3)), times, settings);
    for (const FlowPoint& point : flow.points) {
      const MatrixXd outside = point.at.r - point.at.m * point.at.m.transpose();
      const VectorXd values =
          Eigen::SelfAdjointEigenSolver<MatrixXd>(outside, Eigen::EigenvaluesOnly).eigenvalues();
      EXPECT_GT(values.minCoeff(), -1e-6);
      if (eta_0 == 0) {
        EXPECT_LT(values.maxCoeff(), 1e-6);
      } else {
        EXPECT_GT(values.maxCoeff(), 1e-3);
      }
      EXPECT_EQ(point.at.r, MatrixXd(point.at.r.transpose()));
    }
  }
}

TEST(LimitFlow, SameArgumentsGiveTheSameBits) {
  FlowSettings settings;
  settings.rule = small_rule();
  settings.eta_0 = 1;
  const OrderParameters start =
      order_parameters(planted_keys(4), MatrixXd::Identity(2, 4), planted_biases());
  const double times[] = {0.7};
  const FlowPoint a =
      limit_flow(flipped(HeadActivation::kSoftmax), start, times, settings).points[0];
  const FlowPoint b =
      limit_flow(flipped(HeadActivation::kSoftmax), start, times, settings).points[0];
  EXPECT_EQ(a.at.m, b.at.m);
  EXPECT_EQ(a.at.r, b.at.r);
  EXPECT_EQ(a.loss.value, b.loss.value);
  // Other shifts move the result by about the stated error of the drift times the time.
  settings.rule.seed = 2;
  const FlowPoint c =
      limit_flow(flipped(HeadActivation::kSoftmax), start, times, settings).points[0];
  EXPECT_NE(a.at.m, c.at.m);
  EXPECT_LT(distance(a.at, c.at), 20 * a.drift_error);
}

// The optimum does not move, whichever way the biases are treated.
TEST(LimitFlow, PlantedBayesSoftmaxIsStationary) {
  const double strength[] = {1}, weight[] = {1};
  const SignalLaw law = SignalLaw::flipped_spikes(strength, weight);
  const LimitModel model{law, 2, HeadActivation::kBayesSoftmax};
  const OrderParameters start = planted_parameters(law);
  OrderParameters away = start;
  away.m(0, 0) += 0.5;
  away.r = away.m * away.m.transpose();
  for (Biases biases : {Biases::kFixed, Biases::kTrained, Biases::kTiedToNorm}) {
    FlowSettings settings;
    settings.biases = biases;
    settings.rule.method = RuleSettings::Method::kHermite;
    settings.rule.hermite_points = 10000;  // ten nodes for each of two heads at two tokens
    const double times[] = {1};
    EXPECT_LT(distance(limit_flow(model, start, times, settings).points[0].at, start), 1e-5);
    EXPECT_GT(distance(limit_flow(model, away, times, settings).points[0].at, away), 0.01);
  }
}

// By symmetry two opposite heads move alike under a flipped law, so tied keys, whose gradient is
// the sum over both, move as free ones at twice the speed; with the learning-rate term half of it.
TEST(LimitFlow, TiedKeysMoveAtTheSumOfTheirGradients) {
  const double strength[] = {1.5}, weight[] = {1};
  const LimitModel model{SignalLaw::flipped_spikes(strength, weight), 2, HeadActivation::kSoftmax1};
  const OrderParameters start =
      spanned_parameters(Eigen::Vector2d(0.5, -0.5), VectorXd::Constant(2, 0.5));
  FlowSettings settings;
  settings.rule = small_rule();
  settings.tolerance = 1e-8;
  const double once[] = {1}, twice[] = {2};
  const OrderParameters free = limit_flow(model, start, twice, settings).points[0].at;
  settings.tie = Eigen::Vector2d(1, -1);
  const OrderParameters tied = limit_flow(model, start, once, settings).points[0].at;
  EXPECT_EQ(tied.m(0, 0), -tied.m(1, 0));
  EXPECT_LT(distance(free, tied), 2e-3);  // the lattice does not have the symmetry of heads exactly
  EXPECT_GT(distance(start, tied), 0.1);
  settings.eta_0 = 1;  // the noise of the one key is that of both heads: r stays of rank 1
  const OrderParameters noisy = limit_flow(model, start, once, settings).points[0].at;
  EXPECT_NEAR(noisy.r(0, 0), -noisy.r(0, 1), 1e-12);
  EXPECT_GT(noisy.r(0, 0), noisy.m(0, 0) * noisy.m(0, 0) + 1e-3);
}

// Against the derivative of the loss itself: with b = |k|^2 / 2 + offset the drift is minus the
// gradient with respect to the keys, of which this is the part along the hidden direction.
TEST(LimitFlow, TiedBiasesFollowTheGradientThroughTheNorm) {
  const double strength[] = {1.2}, weight[] = {1};
  const LimitModel model{SignalLaw::one_sided_spikes(strength, weight), 2,
                         HeadActivation::kSoftmax1};
  const auto at = [](double k) {
    return spanned_parameters(MatrixXd::Constant(1, 1, k), VectorXd::Constant(1, k * k / 2 + 0.3));
  };
  FlowSettings settings;
  settings.biases = Biases::kTiedToNorm;
  settings.tolerance = 1e-10;
  const double times[] = {1e-3};
  const double moved = limit_flow(model, at(0.6), times, settings).points[0].at.m(0, 0) - 0.6;
  const double slope =
      (limit_risk(model, at(0.601), {}).value - limit_risk(model, at(0.599), {}).value) / 0.002;
  EXPECT_NEAR(moved / 1e-3, -slope, 1e-3 * std::abs(slope));
}

TEST(LimitFlow, AllMistakesAreListed) {
  FlowSettings settings;
  settings.eta_0 = -1;
  settings.bias_rate = -2;
  settings.tolerance = 1;
  settings.most_steps = 0;
  settings.tie = MatrixXd::Ones(2, 1);
  const OrderParameters start =
      order_parameters(planted_keys(4), MatrixXd::Identity(2, 4), planted_biases());
  const double times[] = {1, 0.5};
  const LimitModel model = flipped(HeadActivation::kSoftmax);
  EXPECT_EQ(test::error_of([&] { limit_flow(model, start, times, settings); }),
            "[limit flow] 6 problems:\n"
            "  - time 2 is 0.5; times grow from 0\n"
            "  - eta_0 is -1; 0 or a positive number is possible\n"
            "  - bias_rate is -2; 0 or a positive number is possible\n"
            "  - tolerance is 1; 1e-13 to 0.1 is possible\n"
            "  - most_steps is 0; at least 1 is needed\n"
            "  - the keys of the start are not tied as `tie` says");
  settings = {};
  settings.rule = small_rule();
  settings.most_steps = 1;
  EXPECT_NE(test::error_of([&] {
              limit_flow(model, start, std::span(times, 1), settings);
            }).find("the 1 steps of most_steps have led to time 0.001 of 1"),
            std::string::npos);
}

TEST(DormandPrince, FollowsAnOscillator) {
  for (double tolerance : {1e-5, 1e-9}) {
    DormandPrince solver([](const VectorXd& y) { return VectorXd(Eigen::Vector2d(y[1], -y[0])); },
                         Eigen::Vector2d(1, 0), tolerance);
    while (solver.time() < 10) ASSERT_TRUE(solver.step(10));
    EXPECT_EQ(solver.time(), 10);
    EXPECT_NEAR(solver.state()[0], std::cos(10.0), 30 * tolerance);
    EXPECT_GT(std::abs(solver.state()[0] - std::cos(10.0)), 1e-4 * tolerance);
    EXPECT_LT(solver.steps(), 400);
  }
}

TEST(DormandPrince, SaysWhereASolutionEnds) {
  DormandPrince solver([](const VectorXd& y) { return VectorXd(y.array().square()); },
                       VectorXd::Ones(1), 1e-8);
  while (solver.time() < 2 && solver.step(2)) {
  }
  EXPECT_NEAR(solver.time(), 1, 1e-3);  // 1 / (1 - t)
}

}  // namespace
}  // namespace weir
