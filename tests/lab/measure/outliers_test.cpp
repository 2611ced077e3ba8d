#include "lab/measure/outliers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "lab/measure/statistics.h"
#include "runtime/random.h"

namespace weir {
namespace {

constexpr int64_t kTokens = 90, kFeatures = 50;  // a part is several chunks
const Workers kWorkers(1);

std::vector<float> sequence(uint64_t seed, double deviation) {
  Random random(seed, 0);
  std::vector<float> x(kTokens * kFeatures);
  for (float& value : x) value = static_cast<float>(deviation * random.normal());
  return x;
}

void expect_exact(const std::vector<std::vector<float>>& parts, bool second_pass) {
  std::vector<double> all, sizes;
  for (const auto& part : parts)
    for (float value : part) {
      all.push_back(value);
      sizes.push_back(std::abs(value));
    }
  const auto total = static_cast<int64_t>(all.size());
  std::optional<double> kurtosis;
  for (const int threads : {1, 3})
    for (const bool may_come_again : {true, false}) {
      const Workers workers(threads);
      OutlierStatistics statistics(kTokens, kFeatures, total, 100, may_come_again);
      for (const auto& part : parts) statistics.add(std::span<const float>(part), workers);
      EXPECT_EQ(statistics.needs_second_pass(), second_pass && may_come_again);
      if (statistics.needs_second_pass())
        for (const auto& part : parts) statistics.add_again(std::span<const float>(part), workers);
      const Outliers outliers = statistics.result(1000);
      EXPECT_EQ(outliers.median_abs, median(sizes));
      EXPECT_EQ(outliers.max_abs, largest(sizes));
      const double expected = excess_kurtosis(all);
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(outliers.kurtosis));
        continue;
      }
      EXPECT_NEAR(outliers.kurtosis, expected, 1e-9 * std::abs(expected));
      if (kurtosis) {
        EXPECT_EQ(outliers.kurtosis, *kurtosis) << "the same bits for all workers";
      }
      kurtosis = outliers.kurtosis;
    }
}

TEST(OutlierStatistics, AreExactInParts) {
  expect_exact({sequence(1, 1)}, false);
  expect_exact({sequence(1, 1), sequence(2, 1.05), sequence(3, 0.95)}, false);
  std::vector<float> odd = sequence(4, 1), shorter = sequence(5, 1);
  shorter.pop_back();
  expect_exact({odd, shorter}, false);
}

TEST(OutlierStatistics, AreExactWhenPartsDifferVeryMuch) {
  expect_exact({sequence(1, 0.01), sequence(2, 3), sequence(3, 5)}, true);
}

TEST(OutlierStatistics, EqualElementsAreAllKept) {
  std::vector<float> same(kTokens * kFeatures, -2.5f);
  expect_exact({same, same}, false);
}

TEST(OutlierStatistics, ListMassiveActivationsBySize) {
  std::vector<std::vector<float>> parts = {sequence(1, 0.01), sequence(2, 0.01)};
  for (int i = 0; i < 20; ++i)
    parts[1][7 * static_cast<size_t>(i)] = -200.0f - static_cast<float>(i);
  parts[0][kFeatures + 3] = 5000;
  parts[0][kFeatures + 4] = -5000;  // as large: the earlier one comes first
  parts[0][5] = 99;                 // below the absolute threshold
  OutlierStatistics statistics(kTokens, kFeatures, 2 * kTokens * kFeatures, 100);
  for (const auto& part : parts) statistics.add(std::span<const float>(part), kWorkers);
  const Outliers outliers = statistics.result(1000);
  ASSERT_EQ(outliers.massive.size(), most_massive);
  EXPECT_EQ(outliers.massive[0].value, 5000);
  EXPECT_EQ(outliers.massive[0].sequence, 0);
  EXPECT_EQ(outliers.massive[0].token, 1);
  EXPECT_EQ(outliers.massive[0].feature, 3);
  EXPECT_EQ(outliers.massive[1].feature, 4);
  EXPECT_EQ(outliers.massive[2].value, -219);
  EXPECT_EQ(outliers.massive[2].sequence, 1);
  EXPECT_EQ(outliers.massive[2].token, 7 * 19 / kFeatures);
  EXPECT_EQ(outliers.massive.back().value, -206);
  EXPECT_TRUE(statistics.result(1e7).massive.empty());
}

TEST(OutlierStatistics, ANaNIsNotHidden) {
  std::vector<float> first = sequence(1, 1), second = sequence(2, 1);
  second[17] = std::numeric_limits<float>::quiet_NaN();
  OutlierStatistics statistics(kTokens, kFeatures, 2 * kTokens * kFeatures, 100);
  statistics.add(std::span<const float>(first), kWorkers);
  statistics.add(std::span<const float>(second), kWorkers);
  EXPECT_FALSE(statistics.needs_second_pass());
  const Outliers outliers = statistics.result(1000);
  EXPECT_TRUE(std::isnan(outliers.max_abs));
  EXPECT_TRUE(std::isnan(outliers.median_abs));
  EXPECT_TRUE(std::isnan(outliers.kurtosis));
  EXPECT_TRUE(outliers.massive.empty());
}

// Four tokens of five features, by hand: feature 3 is among the three largest on all, feature 1 on
// three of four, which is below 90 %.
TEST(OutlierStatistics, FindsFeaturesThatAreAlwaysLarge) {
  const std::vector<double> x = {0, 5,  1, -9, 2,   //
                                 1, 4,  0, 8,  -3,  //
                                 0, -3, 2, 7,  1,   //
                                 6, 0,  2, 5,  -7};
  const Outliers outliers = outliers_of(x, 4, 5, 100, 1000);
  ASSERT_EQ(1U, outliers.residual_sinks.size());
  EXPECT_EQ(3, outliers.residual_sinks[0].feature);
  EXPECT_EQ(1, outliers.residual_sinks[0].share);
}

// Of a token (0, 0, 0, 0, 0, 10): mean x^4 = 10000 / 6, unbiased variance 100 / 6; of one of equal
// sizes the term is below zero and so zero.
TEST(OutlierStatistics, KurtosisOverTokensIsThatOfOutlierSafePreTraining) {
  const double first = 1e4 / 6 / ((100.0 / 6) * (100.0 / 6)) - 3;
  EXPECT_NEAR(outliers_of(std::vector<double>{0, 0, 0, 0, 0, 10}, 1, 6, 100, 1000).token_kurtosis,
              first, 1e-12);
  EXPECT_NEAR(
      outliers_of(std::vector<double>{0, 0, 0, 0, 0, 10, 1, -1, 1, -1, 1, -1}, 2, 6, 100, 1000)
          .token_kurtosis,
      first / 2, 1e-12);
}

TEST(OutlierStatistics, TokensGiveTheSameBitsInPartsAndForAllWorkers) {
  const std::vector<float> a = sequence(1, 1), b = sequence(2, 3);
  std::optional<double> kurtosis;
  for (int threads : {1, 3}) {
    const Workers workers(threads);
    OutlierStatistics statistics(kTokens, kFeatures, 2 * kTokens * kFeatures, 100);
    statistics.add(std::span<const float>(a), workers);
    statistics.add(std::span<const float>(b), workers);
    if (statistics.needs_second_pass()) {
      statistics.add_again(std::span<const float>(a), workers);
      statistics.add_again(std::span<const float>(b), workers);
    }
    const double found = statistics.result(1000).token_kurtosis;
    EXPECT_GT(found, 0);
    if (kurtosis) {
      EXPECT_EQ(found, *kurtosis);
    }
    kurtosis = found;
  }
}

}  // namespace
}  // namespace weir
