#include "lab/specialize/limit_risk.h"

#include <gtest/gtest.h>

#include <Eigen/Eigenvalues>

#include "lab/specialize/location_posterior.h"
#include "lab/specialize/specialize_test_util.h"
#include "testing/error_of.h"

namespace weir {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

const double kStrengths[] = {2, 1.5}, kWeights[] = {0.6, 0.4};

LimitModel flipped(HeadActivation activation, int64_t tokens) {
  return {SignalLaw::flipped_spikes(kStrengths, kWeights), tokens, activation};
}

// Three keys in a space of five dimensions, whose first two are the hidden directions.
OrderParameters three_keys(double size) {
  Random random(31, 0);
  const MatrixXd keys = random_matrix(3, 5, size, random);
  return order_parameters(keys, MatrixXd::Identity(2, 5), random_matrix(3, 1, 0.5, random));
}

TEST(LimitRisk, RootOfASingularMatrix) {
  const OrderParameters at = spanned_parameters(three_keys(1).m, VectorXd::Zero(3));
  const MatrixXd root = symmetric_root(at.r);
  EXPECT_LT((root * root - at.r).cwiseAbs().maxCoeff(), 1e-13);
  EXPECT_LT((root - root.transpose()).cwiseAbs().maxCoeff(), 1e-15);
}

// The mean over plain samples of tokens in five dimensions, with the definition of the weights.
TEST(LimitRisk, IsTheMeanOverSamples) {
  for (HeadActivation activation : kHeadActivations) {
    const LimitModel model = flipped(activation, 3);
    Random random(31, 0), draws(32, 0);
    const MatrixXd keys = random_matrix(3, 5, 0.8, random);
    const VectorXd biases = random_matrix(3, 1, 0.5, random);
    const OrderParameters at = order_parameters(keys, MatrixXd::Identity(2, 5), biases);
    double sum = 0, squares = 0;
    constexpr int count = 10000;
    for (int i = 0; i < count; ++i) {
      MatrixXd tokens = random_matrix(5, 3, 1, draws);
      tokens.col(2).head(2) += model.law.draw(draws);
      const double loss = plain_loss(activation, keys * tokens, biases, 2);
      sum += loss;
      squares += loss * loss;
    }
    const double mean = sum / count, error = std::sqrt((squares / count - mean * mean) / count);
    const Estimate risk = limit_risk(model, at, {});
    EXPECT_LT(risk.error, 1e-3);
    EXPECT_LT(std::abs(risk.value - mean), 4 * std::hypot(error, risk.error));
  }
}

TEST(LimitRisk, QuadratureAgreesWithTheLattice) {
  RuleSettings hermite, lattice;
  hermite.method = RuleSettings::Method::kHermite;
  hermite.hermite_points = 20 * 20 * 20 * 20;
  lattice.method = RuleSettings::Method::kLattice;
  const OrderParameters three = three_keys(0.8);
  const OrderParameters at{three.m.topRows(2), three.r.topLeftCorner(2, 2), three.b.head(2)};
  for (HeadActivation activation : kHeadActivations) {
    const LimitModel model = flipped(activation, 2);
    const MatrixXd A = symmetric_root(at.r);
    const auto part = AveragesUpTo::kFlow;
    const LimitAverages q =
        mean_averages(limit_averages(model, at.m, A, at.b, score_rule(model, 2, hermite), part));
    const LimitAverages l =
        mean_averages(limit_averages(model, at.m, A, at.b, score_rule(model, 2, lattice), part));
    EXPECT_NEAR(q.loss, l.loss, 5e-4);
    EXPECT_LT((q.curvature - l.curvature).cwiseAbs().maxCoeff(), 5e-4);
    EXPECT_LT((q.signal - l.signal).cwiseAbs().maxCoeff(), 5e-4);
    EXPECT_LT((q.step_noise - l.step_noise).cwiseAbs().maxCoeff(), 5e-4);
    EXPECT_LT((q.by_bias - l.by_bias).cwiseAbs().maxCoeff(), 5e-4);
    // Stein's lemma: E sum_l c_hl g_lj = (J A)_hj, one side from first derivatives alone.
    const LimitAverages first = mean_averages(limit_averages(
        model, at.m, A, at.b, score_rule(model, 2, hermite), AveragesUpTo::kFirstDerivatives));
    EXPECT_LT((first.by_factor - q.curvature * A).cwiseAbs().maxCoeff(), 1e-5);
  }
}

TEST(LimitRisk, KeysInTheSpanNeedOneNumberADirection) {
  const OrderParameters at = spanned_parameters(three_keys(0.6).m, three_keys(0.6).b);
  OrderParameters off = at;  // just enough to be integrated over all heads
  off.r += 1e-10 * MatrixXd::Identity(3, 3);
  for (HeadActivation activation : kHeadActivations) {
    const Estimate reduced = limit_risk(flipped(activation, 3), at, {});
    const Estimate full = limit_risk(flipped(activation, 3), off, {});
    EXPECT_NEAR(reduced.value, full.value, 4 * std::hypot(reduced.error, full.error) + 1e-6);
  }
}

// By independent samples: loss - (1 - sum p^2) - |a - p|^2 has the mean 0.
TEST(LimitRisk, ExcessOverBayesIsTheDistanceToThePosterior) {
  const OrderParameters three = three_keys(1);
  const OrderParameters at = spanned_parameters(three.m, three.b);
  for (HeadActivation activation : kHeadActivations) {
    const LimitModel model = flipped(activation, 3);
    Random random(34, 0);
    double sum = 0, squares = 0, distance = 0, squared_distance = 0;
    constexpr int count = 20000;
    for (int i = 0; i < count; ++i) {
      MatrixXd y = random_matrix(2, 3, 1, random);
      y.col(1) += model.law.draw(random);
      const VectorXd p = location_posterior(model.law, y);
      const VectorXd a = attention_weights(activation, at.m * y, at.b);
      const double away = (a - p).squaredNorm();
      const double rest = plain_loss(activation, at.m * y, at.b, 1) - (1 - p.squaredNorm()) - away;
      sum += rest;
      squares += rest * rest;
      distance += away;
      squared_distance += away * away;
    }
    EXPECT_LT(std::abs(sum), 4 * std::sqrt(squares)) << activation_name(activation);
    const Estimate excess = excess_risk(model, at, {});
    const double error = std::sqrt(squared_distance) / count;
    EXPECT_LT(std::abs(distance / count - excess.value), 4 * std::hypot(error, excess.error));
    const double difference = limit_risk(model, at, {}).value - bayes_risk(model.law, 3, {}).value;
    EXPECT_NEAR(difference, excess.value, 2e-3);
    EXPECT_GT(excess.value, 0.02);
  }
}

TEST(LimitRisk, AGaussianLawIsAveragedToo) {
  const double strength[] = {1.2};
  const LimitModel model{SignalLaw::gaussian(strength), 2, HeadActivation::kSoftmax1};
  const OrderParameters at =
      spanned_parameters(MatrixXd::Constant(1, 1, 1.1), VectorXd::Constant(1, 0.3));
  RuleSettings lattice;
  lattice.method = RuleSettings::Method::kLattice;
  const Estimate exact = limit_risk(model, at, {}), points = limit_risk(model, at, lattice);
  EXPECT_NEAR(exact.value, points.value, 2e-4);
  Random random(35, 0);
  double sum = 0;
  constexpr int count = 40000;
  for (int i = 0; i < count; ++i) {
    MatrixXd y = random_matrix(1, 2, 1, random);
    y.col(0) += model.law.draw(random);
    sum += plain_loss(model.activation, at.m * y, at.b, 0);
  }
  EXPECT_NEAR(sum / count, exact.value, 4 * 0.5 / std::sqrt(count));
}

TEST(LimitRisk, AllMistakesAreListed) {
  const LimitModel model = flipped(HeadActivation::kSoftmax, 1);
  EXPECT_EQ(test::error_of([&] {
              limit_risk(model, {MatrixXd::Zero(2, 3), MatrixXd::Zero(2, 1), VectorXd::Zero(1)},
                         {});
            }),
            "[limit risk] 4 problems:\n"
            "  - tokens is 1; at least 2 are needed\n"
            "  - m has 3 columns; the law has 2 hidden directions\n"
            "  - r is 2 x 1; 2 x 2 is needed for the rows of m\n"
            "  - there are 1 biases for 2 heads");
  OrderParameters at = three_keys(1);
  at.r *= 0.01;
  EXPECT_NE(test::error_of([&] {
              check_parameters(flipped(HeadActivation::kSoftmax, 2), at);
            }).find("no keys have this m and r"),
            std::string::npos);
}

}  // namespace
}  // namespace weir
