#include "lab/specialize/signal_law.h"

#include <gtest/gtest.h>

#include <limits>

#include "lab/specialize/gaussian_rule.h"
#include "lab/specialize/specialize_test_util.h"
#include "testing/error_of.h"

namespace weir {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

const double kStrengths[] = {2, 1}, kWeights[] = {3, 1};

std::vector<SignalLaw> laws() {
  MatrixXd points(3, 2);
  points << 1, 2, -1, 0, 0.5, -3;
  return {SignalLaw::flipped_spikes(kStrengths, kWeights),
          SignalLaw::flipped_spikes(kStrengths, kWeights, 0.8),
          SignalLaw::one_sided_spikes(kStrengths, kWeights),
          SignalLaw::discrete(points, Eigen::Vector3d(1, 2, 1)), SignalLaw::gaussian(kStrengths)};
}

TEST(SignalLaw, MomentsByHand) {
  const SignalLaw flipped = SignalLaw::flipped_spikes(kStrengths, kWeights);
  EXPECT_EQ(flipped.points().rows(), 4);
  EXPECT_EQ(flipped.mean(), Eigen::Vector2d(0, 0));
  EXPECT_EQ(flipped.covariance(), MatrixXd(Eigen::Vector2d(0.75 * 4, 0.25).asDiagonal()));
  const SignalLaw one_sided = SignalLaw::one_sided_spikes(kStrengths, kWeights);
  EXPECT_EQ(one_sided.points().rows(), 2);
  EXPECT_EQ(one_sided.mean(), Eigen::Vector2d(1.5, 0.25));
  EXPECT_NEAR(one_sided.covariance()(0, 0), 3 - 1.5 * 1.5, 1e-15);
  EXPECT_NEAR(one_sided.covariance()(0, 1), -1.5 * 0.25, 1e-15);
  EXPECT_EQ(SignalLaw::gaussian(kStrengths).covariance()(0, 0), 4);
  EXPECT_EQ(flipped.scaled(2).covariance(), 4 * flipped.covariance());
}

TEST(SignalLaw, DrawsHaveTheMoments) {
  constexpr int count = 40000;
  for (const SignalLaw& law : laws()) {
    Random random(11, 0), again(11, 0);
    EXPECT_EQ(law.draw(random), law.draw(again));
    VectorXd sum = VectorXd::Zero(2);
    MatrixXd squares = MatrixXd::Zero(2, 2);
    for (int i = 0; i < count; ++i) {
      const VectorXd theta = law.draw(random);
      sum += theta;
      squares += theta * theta.transpose();
    }
    const VectorXd mean = sum / count;
    // Standard errors are at most 3 / sqrt(count) of a mean and 6 / sqrt(count) of a square.
    EXPECT_LT((mean - law.mean()).cwiseAbs().maxCoeff(), 4 * 3 / std::sqrt(count));
    EXPECT_LT((squares / count - mean * mean.transpose() - law.covariance()).cwiseAbs().maxCoeff(),
              4 * 6 / std::sqrt(count));
  }
}

// Against the definition: a plain sum over points, and for the Gaussian an integral by many nodes.
TEST(SignalLaw, LogRatioIsThatOfTheDefinition) {
  const double y[] = {1.3, -0.7};
  for (const SignalLaw& law : laws()) {
    double sum = 0;
    const auto add = [&](double weight, const VectorXd& theta) {
      sum += weight * std::exp(theta[0] * y[0] + theta[1] * y[1] - theta.squaredNorm() / 2);
    };
    if (law.kind() == SignalLaw::Kind::kDiscrete) {
      for (int p = 0; p < law.points().rows(); ++p)
        add(law.weights()[p], law.points().row(p).transpose());
    } else {
      const GaussianRule rule = gauss_hermite(2, 120);
      for (int i = 0; i < rule.points.cols(); ++i)
        add(rule.weights[i], law.scales().cwiseProduct(rule.points.col(i)));
    }
    EXPECT_NEAR(law.log_ratio(y), std::log(sum), 1e-10);
  }
}

TEST(SignalLaw, AllMistakesAreListed) {
  const double bad[] = {-1, std::numeric_limits<double>::infinity()}, one[] = {0};
  EXPECT_EQ(test::error_of([&] { SignalLaw::flipped_spikes(bad, one, 1.5); }),
            "[signal law] 5 problems:\n"
            "  - strength 1 is -1; 0 or a positive number is possible\n"
            "  - strength 2 is inf; 0 or a positive number is possible\n"
            "  - there are 1 weights for 2 of what is drawn; one each is needed\n"
            "  - weight 1 is 0; a positive number is needed\n"
            "  - the probability of a positive sign is 1.5; 0 to 1 is possible");
  EXPECT_NE(test::error_of([] { SignalLaw::gaussian({}); }).find("no strength"), std::string::npos);
  EXPECT_NE(test::error_of([] { SignalLaw::discrete(MatrixXd(0, 2), VectorXd(0)); }).find("0 x 2"),
            std::string::npos);
}

}  // namespace
}  // namespace weir
