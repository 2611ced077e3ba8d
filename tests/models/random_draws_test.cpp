#include "models/random_draws.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "interpret/interpret.h"

namespace weir {
namespace {

/// What `make` makes of [n] draws under a key.
template <typename Make>
std::vector<double> drawn(int64_t n, double key, Make make) {
  Builder b("draws");
  const Tensor index = b.iota(0, i32({n})), zero = b.constant(0, i32({}));
  b.output("y", make(DrawAt{index, zero, b.constant(key, i32({}))}));
  return interpret_all(*b.finish(), {}).outputs.at("y").data;
}

double upper_tail(double z) { return std::erfc(z / std::numbers::sqrt2) / 2; }

TEST(RandomDraws, NormalNumbersHaveTheTailOfTheirBits) {
  const int64_t n = 20000;
  const auto bits =
      drawn(n, 3, [](const DrawAt& at) { return random_bits(at.low, at.high, at.key); });
  const auto z = drawn(n, 3, [](const DrawAt& at) { return random_normal(at); });
  for (size_t i = 0; i < z.size(); ++i) {
    EXPECT_EQ(z[i] >= 0, bits[i] >= 0);
    const double tail = (std::abs(bits[i]) + 0.5) / std::exp2(32);
    EXPECT_NEAR(upper_tail(std::abs(z[i])) / tail, 1, 1e-5) << bits[i];
  }
}

// The known answer of philox_2x32 for counter 0 under key 0 is 0xff1dae59 = -14832039.
TEST(RandomDraws, AreThoseOfTheirCounter) {
  EXPECT_EQ(drawn(1, 0, [](const DrawAt& at) { return random_uniform(at); })[0],
            0.5 - 14832039 / std::exp2(32));
}

TEST(RandomDraws, HaveTheMomentsOfANormalLaw) {
  const int64_t n = 400000;
  const auto z = drawn(n, 7, [](const DrawAt& at) { return random_normal(at); });
  double moments[5] = {};
  for (double value : z)
    for (int k = 1; k <= 4; ++k) moments[k] += std::pow(value, k) / static_cast<double>(n);
  const double error = 4 / std::sqrt(static_cast<double>(n));  // of a number of variance 1
  EXPECT_NEAR(moments[1], 0, error);
  EXPECT_NEAR(moments[2], 1, error * std::sqrt(2));
  EXPECT_NEAR(moments[3], 0, error * std::sqrt(15));
  EXPECT_NEAR(moments[4], 3, error * std::sqrt(96));
  double neighbours = 0;
  for (size_t i = 1; i < z.size(); ++i) neighbours += z[i] * z[i - 1] / static_cast<double>(n);
  EXPECT_NEAR(neighbours, 0, error);
}

TEST(RandomDraws, OneHotsChooseEqualParts) {
  const int64_t n = 60000, parts = 5;
  const auto y = drawn(n, 11, [&](const DrawAt& at) {
    const DrawAt by_row{reshape(at.low, {n, 1}), at.high, at.key};
    return random_one_hot(by_row, parts);
  });
  std::vector<double> count(parts);
  for (int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (int64_t k = 0; k < parts; ++k) {
      const double chosen = y[static_cast<size_t>(i * parts + k)];
      count[static_cast<size_t>(k)] += chosen;
      sum += chosen;
    }
    ASSERT_EQ(sum, 1);
  }
  const double expected = static_cast<double>(n) / parts;
  for (double c : count) EXPECT_NEAR(c, expected, 4 * std::sqrt(expected));
}

TEST(RandomDraws, DifferByKeyAndByHighHalf) {
  Builder b("draws");
  const Tensor low = b.iota(0, i32({1000})), zero = b.constant(0, i32({}));
  const Tensor one = b.constant(1, i32({}));
  b.output("a", random_bits(low, zero, zero));
  b.output("high", random_bits(low, one, zero));
  b.output("key", random_bits(low, zero, one));
  const Tensors y = interpret_all(*b.finish(), {}).outputs;
  for (size_t i = 0; i < 1000; ++i) {
    EXPECT_NE(y.at("a").data[i], y.at("high").data[i]);
    EXPECT_NE(y.at("a").data[i], y.at("key").data[i]);
    EXPECT_NE(y.at("high").data[i], y.at("key").data[i]);
  }
}

}  // namespace
}  // namespace weir
