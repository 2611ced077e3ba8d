#include "runtime/random.h"

#include <gtest/gtest.h>

#include <array>

namespace weir {
namespace {

TEST(Random, PhiloxMatchesThePublishedVectors) {
  // Known answers of the authors' Random123 distribution.
  EXPECT_EQ(philox({0, 0, 0, 0}, 0),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  uint32_t f = 0xffffffff;
  EXPECT_EQ(philox({f, f, f, f}, ~uint64_t{0}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Random, MomentsAreRight) {
  Random random(1, 2);
  double sum = 0, squares = 0, gamma = 0;
  const int n = 20000;
  for (int i = 0; i < n; ++i) {
    double x = random.normal();
    sum += x;
    squares += x * x;
    gamma += random.gamma(0.3);
  }
  EXPECT_NEAR(sum / n, 0, 0.03);
  EXPECT_NEAR(squares / n, 1, 0.03);
  EXPECT_NEAR(gamma / n, 0.3, 0.02);
}

}  // namespace
}  // namespace weir
