#include "lab/experiments/line_fit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace weir {
namespace {

// Published tables of Student's distribution.
TEST(StudentT, Quantiles) {
  EXPECT_NEAR(student_t(1, 0.95), 12.7062047, 1e-6);
  EXPECT_NEAR(student_t(2, 0.95), 4.30265273, 1e-7);
  EXPECT_NEAR(student_t(19, 0.95), 2.09302405, 1e-7);
  EXPECT_NEAR(student_t(10, 0.99), 3.16927267, 1e-7);
  EXPECT_NEAR(student_t(1000000, 0.95), 1.95996, 1e-4);
}

// By hand: x 0 1 2 3, y 1 3 4 8: slope 2.2, intercept 0.7, squared residuals 0.09 + 0.01 + 1.21 +
// 0.49 = 1.8, standard error sqrt(1.8 / 2 / 5).
TEST(LineFit, AgreesWithWhatIsComputedByHand) {
  const std::vector<double> x = {0, 1, 2, 3}, y = {1, 3, 4, 8};
  const LineFit fit = fit_line(x, y, 0.95);
  EXPECT_EQ(fit.points, 4);
  EXPECT_NEAR(fit.slope, 2.2, 1e-12);
  EXPECT_NEAR(fit.intercept, 0.7, 1e-12);
  const double half = 4.30265273 * std::sqrt(1.8 / 2 / 5);
  EXPECT_NEAR(fit.low, 2.2 - half, 1e-6);
  EXPECT_NEAR(fit.high, 2.2 + half, 1e-6);
  EXPECT_NEAR(fit.r_squared, 1 - 1.8 / 26, 1e-12);
}

TEST(LineFit, APowerIsALineOfLogarithms) {
  std::vector<double> x, y;
  for (int i = 1; i < 9; ++i) x.push_back(i), y.push_back(3 * std::pow(i, -1.5));
  x.push_back(0), y.push_back(1);   // has no logarithm
  x.push_back(2), y.push_back(-1);  // nor this
  const LineFit fit = fit_power(x, y, 0.9);
  EXPECT_EQ(fit.points, 8);
  EXPECT_NEAR(fit.slope, -1.5, 1e-12);
  EXPECT_NEAR(std::exp(fit.intercept), 3, 1e-12);
  EXPECT_NEAR(fit.high - fit.low, 0, 1e-12);
}

TEST(LineFit, SaysWhatItCannotKnow) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> two = {1, 2}, same = {2, 2}, missing = {nan, 1};
  EXPECT_EQ(fit_line(two, two, 0.95).slope, 1);
  EXPECT_TRUE(std::isnan(fit_line(two, two, 0.95).low));
  EXPECT_TRUE(std::isnan(fit_line(same, two, 0.95).slope));
  EXPECT_EQ(fit_line(two, missing, 0.95).points, 1);
  EXPECT_TRUE(std::isnan(fit_line(two, missing, 0.95).slope));
}

}  // namespace
}  // namespace weir
