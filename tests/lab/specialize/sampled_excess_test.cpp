#include "lab/specialize/sampled_excess.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lab/specialize/location_posterior.h"
#include "testing/error_of.h"

namespace weir {
namespace {

using testing::HasSubstr;

LimitModel two_flipped(HeadActivation activation) {
  const double strengths[] = {1.6, 1.1}, weights[] = {0.5, 0.5};
  return {SignalLaw::flipped_spikes(strengths, weights), 3, activation};
}

TEST(SampledExcess, IsThatOfTheRuleForKeysInTheSpan) {
  for (HeadActivation activation : kHeadActivations) {
    const LimitModel model = two_flipped(activation);
    Eigen::MatrixXd m(3, 2);
    m << 1.2, 0.1, -0.7, 0.3, 0.2, 0.9;
    const OrderParameters at = spanned_parameters(m, Eigen::Vector3d(0.4, 0.1, 0.3));
    const SampledRisk sampled = sampled_excess(model, at, 40000, 1);
    const Estimate rule = excess_risk(model, at, {});
    EXPECT_GT(rule.value, 0.01);
    EXPECT_NEAR(sampled.excess.value, rule.value, 4 * sampled.excess.error);
    EXPECT_NEAR(sampled.bayes.value, bayes_risk(model.law, 3, {}).value, 4 * sampled.bayes.error);
  }
}

// With keys outside of the span it is still the difference of the risks.
TEST(SampledExcess, IsTheRiskAboveBayesForAnyKeys) {
  const LimitModel model = two_flipped(HeadActivation::kBayesSoftmax);
  Eigen::MatrixXd m(2, 2);
  m << 1.2, 0.1, -0.7, 0.3;
  OrderParameters at = spanned_parameters(m, Eigen::Vector2d(0.4, 0.1));
  at.r += Eigen::Vector2d(0.5, 0.8).asDiagonal();
  const SampledRisk sampled = sampled_excess(model, at, 40000, 2);
  const double risk = limit_risk(model, at, {}).value - bayes_risk(model.law, 3, {}).value;
  EXPECT_NEAR(sampled.excess.value, risk, 4 * sampled.excess.error);
  EXPECT_GT(sampled.excess.value,
            excess_risk(model, at, {}).value + 4 * sampled.excess.error);  // of the span alone
}

TEST(SampledExcess, OfThePosteriorIsZero) {
  const LimitModel model = two_flipped(HeadActivation::kBayesSoftmax);
  EXPECT_LT(sampled_excess(model, planted_parameters(model.law), 1000, 1).excess.value, 1e-25);
}

TEST(SampledExcess, NeedsTwoSamples) {
  const LimitModel model = two_flipped(HeadActivation::kBayesSoftmax);
  EXPECT_THAT(test::error_of([&] { sampled_excess(model, planted_parameters(model.law), 1, 1); }),
              HasSubstr("1 samples are asked for, but at least 2"));
}

}  // namespace
}  // namespace weir
