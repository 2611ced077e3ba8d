#include "bench/rounds.h"

#include <gtest/gtest.h>

namespace weir::bench {
namespace {

TEST(BenchRounds, MedianOfOddEvenAndNothing) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(median({}), 0);
}

TEST(BenchRounds, SharesAreOfThePeakAroundEachReading) {
  Rounds rounds;
  rounds.add({80, 100, 100});  // 0.8
  rounds.add({45, 40, 60});    // 0.9: the machine was slower, the share is not
  rounds.add({60, 100, 140});  // 0.5
  EXPECT_DOUBLE_EQ(rounds.median_share(), 0.8);
  EXPECT_DOUBLE_EQ(rounds.best_peak(), 140);
  EXPECT_DOUBLE_EQ(rounds.best_share(), 80.0 / 140);
}

TEST(BenchRounds, EveryRoundLiesBetweenTwoPeaksAndNoneIsDropped) {
  double clock = 0;
  int peaks = 0, rates = 0;
  const Rounds rounds = measure_rounds(
      3,
      [&] {
        ++peaks;
        return clock += 10;  // 10, 20, 30, 40
      },
      [&] {
        ++rates;
        return clock;  // 10, 20, 30
      });
  EXPECT_EQ(peaks, 4);
  EXPECT_EQ(rates, 3);
  EXPECT_DOUBLE_EQ(rounds.median_share(), 20 / 25.0);
  EXPECT_DOUBLE_EQ(rounds.best_share(), 30 / 40.0);
}

TEST(BenchRounds, MeanRatesAreOverTimeNotOverReadings) {
  // The same work at 30, then at 10 takes three times as long: 15 over both.
  int readings = 0;
  double inverse = 0;
  const auto slow_and_fast = [&] {
    const double rate = ++readings % 2 ? 30.0 : 10.0;
    inverse += 1 / rate;
    return rate;
  };
  EXPECT_DOUBLE_EQ(mean_rate(0, slow_and_fast), 30);
  EXPECT_EQ(readings, 1);
  readings = 0, inverse = 0;
  const double mean = mean_rate(0.01, slow_and_fast);
  EXPECT_DOUBLE_EQ(mean, readings / inverse);
}

TEST(BenchRounds, NoRoundsHaveNoShare) {
  const Rounds rounds;
  EXPECT_TRUE(rounds.empty());
  EXPECT_EQ(rounds.median_share(), 0);
  EXPECT_EQ(rounds.best_share(), 0);
}

}  // namespace
}  // namespace weir::bench
