#include "lab/specialize/location_posterior.h"

#include <gtest/gtest.h>

#include "lab/specialize/limit_risk.h"
#include "lab/specialize/specialize_test_util.h"
#include "testing/error_of.h"

namespace weir {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

const double kStrengths[] = {2, 1.5}, kWeights[] = {0.6, 0.4};

// Five unequal points in three dimensions, far and near.
SignalLaw five_points() {
  Random random(21, 0);
  return SignalLaw::discrete(random_matrix(5, 3, 2, random),
                             (VectorXd(5) << 1, 2, 3, 4, 0.1).finished());
}

TEST(LocationPosterior, PlantedBayesSoftmaxIsThePosterior) {
  Random random(22, 0);
  for (const SignalLaw& law : {five_points(), SignalLaw::flipped_spikes(kStrengths, kWeights)}) {
    const OrderParameters planted = planted_parameters(law);
    for (int i = 0; i < 100; ++i) {
      MatrixXd y = random_matrix(law.dimension(), 6, 1, random);
      y.col(2) += law.draw(random);
      const VectorXd a = attention_weights(HeadActivation::kBayesSoftmax, planted.m * y, planted.b);
      EXPECT_LT((a - location_posterior(law, y)).cwiseAbs().maxCoeff(), 1e-12);
    }
  }
}

// The posterior is calibrated: what it says of the hidden token, on average, is the frequency.
TEST(LocationPosterior, IsCalibratedForAGaussianLaw) {
  const SignalLaw law = SignalLaw::gaussian(kStrengths);
  Random random(23, 0);
  double hidden = 0, squares = 0, deviation = 0;
  constexpr int count = 20000;
  for (int i = 0; i < count; ++i) {
    MatrixXd y = random_matrix(2, 3, 1, random);
    y.col(0) += law.draw(random);
    const VectorXd p = location_posterior(law, y);
    const double difference = p[0] - p.squaredNorm();
    hidden += difference;
    deviation += difference * difference;
    squares += p.squaredNorm();
  }
  EXPECT_LT(std::abs(hidden / count), 4 * std::sqrt(deviation) / count);
  EXPECT_GT(squares / count, 0.5);
}

TEST(BayesRisk, WithoutASignalIsThatOfAGuess) {
  const double none[] = {0};
  const SignalLaw law = SignalLaw::gaussian(none);
  EXPECT_NEAR(sampled_bayes_risk(law, 4, 10, 1).value, 0.75, 1e-15);
  EXPECT_NEAR(bayes_risk(law, 4, {}).value, 0.75, 1e-13);
}

TEST(BayesRisk, QuadratureLatticeAndSamplesAgree) {
  const double strength[] = {1.5}, weight[] = {1};
  RuleSettings hermite, lattice;
  hermite.method = RuleSettings::Method::kHermite;
  lattice.method = RuleSettings::Method::kLattice;
  for (const SignalLaw& law :
       {SignalLaw::flipped_spikes(strength, weight), SignalLaw::gaussian(strength)}) {
    const Estimate exact = bayes_risk(law, 2, hermite), points = bayes_risk(law, 2, lattice);
    EXPECT_NEAR(points.value, exact.value, 5e-4);
    EXPECT_LT(points.error, 5e-4);
    const Estimate samples = sampled_bayes_risk(law, 2, 40000, 7);
    EXPECT_LT(samples.error, 2e-3);
    EXPECT_LT(std::abs(samples.value - exact.value), 4 * samples.error);
  }
}

TEST(BayesRisk, PlantedBayesSoftmaxReachesIt) {
  const SignalLaw law = SignalLaw::flipped_spikes(kStrengths, kWeights);
  const LimitModel model{law, 3, HeadActivation::kBayesSoftmax};
  const OrderParameters planted = planted_parameters(law);
  const Estimate risk = limit_risk(model, planted, {}), bayes = bayes_risk(law, 3, {});
  EXPECT_NEAR(risk.value, bayes.value, 1e-3);
  EXPECT_LT(excess_risk(model, planted, {}).value, 1e-24);
  const Estimate samples = sampled_bayes_risk(law, 3, 40000, 8);
  EXPECT_LT(std::abs(samples.value - risk.value), 4 * std::hypot(samples.error, risk.error));
}

TEST(BayesRisk, IsExactWhereTheLocationIsNearlySure) {
  VectorXd posterior(3);
  posterior << 1e-20, 1, 3e-20;
  EXPECT_NEAR(posterior_variance(posterior) / 8e-20, 1, 1e-12);
  posterior << 0.2, 0.3, 0.5;
  EXPECT_NEAR(posterior_variance(posterior), 1 - 0.04 - 0.09 - 0.25, 1e-15);
}

TEST(BayesRisk, AllMistakesAreListed) {
  const double one[] = {1};
  const SignalLaw law = SignalLaw::gaussian(one);
  EXPECT_EQ(test::error_of([&] { sampled_bayes_risk(law, 1, 0, 1); }),
            "[bayes risk] 2 problems:\n"
            "  - tokens is 1; at least 2 are needed\n"
            "  - samples is 0; at least 2 are needed");
  EXPECT_EQ(test::error_of([&] { location_posterior(law, MatrixXd::Zero(2, 3)); }),
            "[location posterior] the projections are 2 x 3; hidden directions (1) x tokens are "
            "needed");
  EXPECT_NE(test::error_of([&] { planted_parameters(law); }).find("Gaussian"), std::string::npos);
}

}  // namespace
}  // namespace weir
