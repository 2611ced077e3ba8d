#include "lab/specialize/best_risk.h"

#include <gtest/gtest.h>

#include "lab/specialize/location_posterior.h"
#include "lab/specialize/specialize_test_util.h"
#include "testing/error_of.h"

namespace weir {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

const double kOne[] = {1};

LimitModel flipped(double strength, HeadActivation activation) {
  return {SignalLaw::flipped_spikes(std::span(&strength, 1), kOne), 2, activation};
}

BestRiskSettings with_heads(int64_t heads) {
  BestRiskSettings settings;
  settings.heads = heads;
  settings.random_starts = 1;
  return settings;
}

// One head of softmax knows all of a one-sided spike: a = p for k = theta.
TEST(BestRisk, OneHeadOfSoftmaxIsEnoughForAOneSidedSpike) {
  const double strength[] = {1.5};
  const LimitModel model{SignalLaw::one_sided_spikes(strength, kOne), 2, HeadActivation::kSoftmax};
  const BestRisk best = best_risk(model, with_heads(1));
  EXPECT_NEAR(best.at.m(0, 0), 1.5, 1e-3);
  EXPECT_LT(best.excess.value, 1e-7);
  EXPECT_NEAR(best.risk.value, bayes_risk(model.law, 2, {}).value, 1e-6);
  for (double risk : best.risks) EXPECT_NEAR(risk, best.risk.value, 1e-6);
}

// Against a scan over the only parameter.
TEST(BestRisk, IsTheLeastOfAScan) {
  const LimitModel model = flipped(2, HeadActivation::kSoftmax);
  double least = 1;
  for (int i = 0; i <= 60; ++i)
    least = std::min(
        least,
        limit_risk(model, spanned_parameters(MatrixXd::Constant(1, 1, 0.05 * i), VectorXd::Zero(1)),
                   {})
            .value);
  const BestRisk best = best_risk(model, with_heads(1));
  EXPECT_LE(best.risk.value, least + 1e-9);
  EXPECT_GT(best.risk.value, least - 1e-3);
}

// At a strong flipped spike, two heads: softmax keeps a floor, softmax-1 has a head switch off,
// Bayes-softmax is the posterior.
TEST(BestRisk, OrderOfTheActivationsAtAFlippedSpike) {
  double excess[3];
  for (size_t i = 0; i < 3; ++i) {
    const LimitModel model = flipped(3, kHeadActivations[i]);
    const BestRisk best = best_risk(model, with_heads(2));
    EXPECT_LT(best.gradient, 1e-4) << activation_name(model.activation);
    EXPECT_GT(best.outside_curvature, -1e-3) << activation_name(model.activation);
    // The risk and the excess come from two integrals.
    EXPECT_NEAR(best.risk.value - bayes_risk(model.law, 2, {}).value, best.excess.value, 2e-3);
    // So does the search from elsewhere: the second start is half way, the last one is random.
    EXPECT_NEAR(best.risks[1], best.risk.value, 1e-4) << activation_name(model.activation);
    EXPECT_NEAR(best.risks.back(), best.risk.value, 1e-4) << activation_name(model.activation);
    excess[i] = best.excess.value;
  }
  EXPECT_GT(excess[0], 0.05);
  EXPECT_LT(excess[1], 0.5 * excess[0]);
  EXPECT_LT(excess[2], 1e-4);
}

// Where nodes of Gauss-Hermite are far apart compared with the steepness of the scores, a search
// could find keys that suit the nodes: the result has to hold on plain samples.
TEST(BestRisk, OfAStrongSignalHoldsOnSamples) {
  BestRiskSettings settings = with_heads(2);
  settings.random_starts = 0;
  settings.rule.lattice_points = 1024;
  const LimitModel model = flipped(5, HeadActivation::kSoftmax1);
  const BestRisk best = best_risk(model, settings);
  EXPECT_LT(best.at.m.cwiseAbs().maxCoeff(), 10);
  double sum = 0, squares = 0;
  constexpr int count = 100000;
  Random random(51, 0);
  for (int i = 0; i < count; ++i) {
    MatrixXd y = random_matrix(1, 2, 1, random);
    y.col(0) += model.law.draw(random);
    const VectorXd a = attention_weights(model.activation, best.at.m * y, best.at.b);
    const double loss = (1 - a[0]) * (1 - a[0]) + a[1] * a[1];
    sum += loss;
    squares += loss * loss;
  }
  const double mean = sum / count, error = std::sqrt((squares / count - mean * mean) / count);
  EXPECT_LT(std::abs(best.risk.value - mean), 4 * std::hypot(error, best.risk.error));
  EXPECT_LT(best.risk.value, 0.02);
  // The planted start is the posterior; no minimum of the rule's risk displaces it.
  EXPECT_LT(best_risk(flipped(5, HeadActivation::kBayesSoftmax), settings).excess.value, 1e-12);
}

TEST(BestRisk, CurveFallsWithTheStrength) {
  const LimitModel unit = flipped(1, HeadActivation::kSoftmax1);
  const double strengths[] = {0, 1, 2, 4};
  BestRiskSettings settings = with_heads(2);
  settings.random_starts = 0;
  const std::vector<RiskPoint> curve = risk_curve(unit, strengths, settings);
  ASSERT_EQ(curve.size(), 4);
  EXPECT_NEAR(curve[0].bayes.value, 0.5, 1e-12);
  EXPECT_NEAR(curve[0].best.risk.value, 0.5, 1e-5);  // two heads of softmax-1 make the guess
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_LT(curve[i].best.risk.value, curve[i - 1].best.risk.value);
    EXPECT_GT(curve[i].best.risk.value, curve[i].bayes.value - 1e-4);
  }
}

TEST(BestRisk, SameArgumentsGiveTheSameBits) {
  const LimitModel model = flipped(1.5, HeadActivation::kSoftmax1);
  BestRiskSettings settings = with_heads(2);
  settings.random_starts = 0;
  const BestRisk a = best_risk(model, settings), b = best_risk(model, settings);
  EXPECT_EQ(a.at.m, b.at.m);
  EXPECT_EQ(a.risk.value, b.risk.value);
  EXPECT_EQ(a.risks, b.risks);
}

TEST(BestRisk, AllMistakesAreListed) {
  BestRiskSettings settings;
  settings.heads = 0;
  settings.random_starts = -1;
  settings.most_iterations = 0;
  settings.tolerance = 0;
  const LimitModel model = flipped(1, HeadActivation::kSoftmax);
  EXPECT_EQ(test::error_of([&] { best_risk(model, settings); }),
            "[best risk] 4 problems:\n"
            "  - heads is 0; at least 1 is needed\n"
            "  - random_starts is -1; 0 or more are possible\n"
            "  - most_iterations is 0; at least 1 is needed\n"
            "  - tolerance is 0; a positive number is needed");
  const double strengths[] = {1, -1};
  EXPECT_NE(test::error_of([&] { risk_curve(model, strengths, {}); }).find("strength 2 is -1"),
            std::string::npos);
}

}  // namespace
}  // namespace weir
