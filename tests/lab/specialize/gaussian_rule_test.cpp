#include "lab/specialize/gaussian_rule.h"

#include <gtest/gtest.h>

#include <functional>
#include <numbers>

#include "lab/specialize/specialize_test_util.h"
#include "testing/error_of.h"

namespace weir {
namespace {

double expect_of(const GaussianRule& rule, const std::function<double(const double*)>& f) {
  double sum = 0;
  for (Eigen::Index i = 0; i < rule.points.cols(); ++i)
    sum += rule.weights[i] * f(rule.points.col(i).data());
  return sum;
}

TEST(GaussianRule, QuantileInvertsTheDistribution) {
  for (double p : {1e-15, 1e-6, 0.02, 0.0243, 0.3, 0.5, 0.7, 0.99, 1 - 1e-9}) {
    const double x = normal_quantile(p);
    EXPECT_NEAR(0.5 * std::erfc(-x / std::numbers::sqrt2) / p, 1, 1e-12) << p;
  }
  EXPECT_NEAR(normal_quantile(0.975), 1.959963984540054, 1e-14);  // tables
}

TEST(GaussianRule, HermiteHasTheMomentsOfTheNormal) {
  const GaussianRule rule = gauss_hermite(2, 20);
  EXPECT_NEAR(rule.weights.sum(), 1, 1e-14);
  EXPECT_NEAR(expect_of(rule, [](const double* z) { return std::pow(z[0], 8); }), 105, 1e-7);
  EXPECT_NEAR(expect_of(rule, [](const double* z) { return z[0] * z[0] * z[1] * z[1]; }), 1, 1e-11);
  EXPECT_NEAR(expect_of(rule, [](const double* z) { return std::exp(z[0] - z[1]); }), std::exp(1.0),
              1e-10);
}

// E exp(i s . z) = exp(-|s|^2 / 2) in 12 dimensions, and the error that the shifts state.
TEST(GaussianRule, LatticeIsBetterThanRandomPoints) {
  const GaussianRule rule = shifted_lattice(12, 512, 8, 5);
  EXPECT_EQ(rule.groups, 8);
  EXPECT_EQ(rule.points.cols(), 2 * 509 * 8);
  EXPECT_NEAR(rule.weights.sum(), 1, 1e-11);
  EXPECT_EQ(expect_of(rule, [](const double* z) { return std::pow(z[3], 3); }), 0);
  const auto wave = [](const double* z) {
    double s = 0;
    for (int j = 0; j < 12; ++j) s += 0.3 * z[j];
    return std::cos(s);
  };
  // Random points would err by 0.42 / sqrt(8144) = 0.0047.
  EXPECT_NEAR(expect_of(rule, wave), std::exp(-12 * 0.09 / 2), 1e-3);
  EXPECT_NEAR(expect_of(rule, [](const double* z) { return z[11] * z[11]; }), 1, 1e-3);
}

TEST(GaussianRule, SameArgumentsGiveTheSameBits) {
  const GaussianRule a = shifted_lattice(6, 101, 4, 9), b = shifted_lattice(6, 101, 4, 9);
  EXPECT_EQ(a.points, b.points);
  EXPECT_NE(a.points, shifted_lattice(6, 101, 4, 10).points);
}

TEST(GaussianRule, AutomaticTakesHermiteInLowDimension) {
  EXPECT_EQ(gaussian_rule(2, {}).groups, 1);
  EXPECT_EQ(gaussian_rule(3, {}).groups, 1);
  EXPECT_EQ(gaussian_rule(4, {}).groups, 4);
}

TEST(GaussianRule, AllMistakesAreListed) {
  RuleSettings settings;
  settings.lattice_points = 3;
  settings.shifts = 1;
  settings.hermite_points = 0;
  EXPECT_EQ(test::error_of([&] { gaussian_rule(0, settings); }),
            "[integration rule] 4 problems:\n"
            "  - an expectation over 0 normal numbers is asked for; 1 to 4096 are possible (heads "
            "x tokens, with a Gaussian law also directions)\n"
            "  - lattice_points is 3; 16 to 65536 are possible\n"
            "  - shifts is 1; 2 to 1024 are possible\n"
            "  - hermite_points is 0; 1 to 100000000 are possible");
  settings = {};
  settings.method = RuleSettings::Method::kHermite;
  EXPECT_NE(test::error_of([&] { gaussian_rule(20, settings); }).find("less than 2 nodes"),
            std::string::npos);
}

}  // namespace
}  // namespace weir
