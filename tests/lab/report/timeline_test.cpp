#include "lab/report/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "lab/report/growth_fit.h"
#include "lab/report/paired_bootstrap.h"
#include "lab/report/report.h"
#include "lab/report/sample_compare.h"
#include "testing/temporary_folder.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using State = Onset::State;
using testing::HasSubstr;

const std::vector<int64_t> kSteps = {0, 1, 2, 4, 8, 16, 32};

Onset above(const std::vector<double>& values, int64_t measurements = 3) {
  return find_onset(kSteps, values, 1, false, measurements);
}

void expect_onset(const Onset& onset, State state, int64_t step, int64_t before) {
  EXPECT_STREQ(state_name(onset.state), state_name(state));
  EXPECT_EQ(onset.step, step);
  EXPECT_EQ(onset.before, before);
}

TEST(Onset, IsTheFirstStepFromWhichAQuantityStaysBeyond) {
  expect_onset(above({0, 0, 2, 2, 2, 2, 2}), State::reached, 2, 1);
  expect_onset(above({2, 2, 2, 2, 2, 2, 2}), State::reached, 0, -1);
  // Two measurements are no onset, and one at the threshold is not beyond it.
  expect_onset(above({0, 2, 2, 0, 2, 2, 2}), State::reached, 8, 4);
  expect_onset(above({0, 2, 2, 1, 2, 2, 1}), State::never, -1, -1);
  // It counts though it passes.
  expect_onset(above({2, 2, 2, 0, 0, 0, 0}), State::reached, 0, -1);
  expect_onset(above({0, 0, 0, 0, 0, 0, 0}), State::never, -1, -1);
}

TEST(Onset, IsNotCertainWhereTooFewMeasurementsRemain) {
  expect_onset(above({0, 0, 0, 0, 0, 2, 2}), State::uncertain, 16, 8);
  expect_onset(above({0, 0, 0, 0, 0, 0, 2}), State::uncertain, 32, 16);
  expect_onset(above({0, 0, 0, 0, 0, 2, 2}, 2), State::reached, 16, 8);
  expect_onset(above({0, 0, 0, 0, 0, 0, 2}, 1), State::reached, 32, 16);
  EXPECT_EQ(onset_text(above({0, 0, 0, 0, 0, 2, 2})), "not certain (from step 16)");
}

TEST(Onset, ANumberThatIsNoneEndsARow) {
  const double none = std::nan("");
  expect_onset(above({2, 2, none, 2, 2, 2, 2}), State::reached, 4, 2);
  expect_onset(above({none, none, none, none, none, none, none}), State::never, -1, -1);
  expect_onset(find_onset({}, {}, 1, false, 3), State::missing, -1, -1);
}

TEST(Onset, OfADrainIsBelowItsThreshold) {
  expect_onset(find_onset(kSteps, std::vector<double>{1, 1, 0.4, 0.4, 0.4, 0.4, 0.4}, 0.5, true, 3),
               State::reached, 2, 1);
}

class TimelineOfRun : public testing::Test {
 protected:
  const test::TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path() / "run";
};

TEST_F(TimelineOfRun, FindsTheStepsThatItsNumbersHave) {
  test::write_compared_run(folder_, 1, {test::sinking_arm(0), test::regulated_arm(0, 0)});
  const Timeline timeline = timeline_of(read_measured(folder_ / "baseline", "baseline"), {});
  EXPECT_EQ(timeline.of(TimelineEvent::sink).first.onset.step, 8);
  EXPECT_EQ(timeline.of(TimelineEvent::value_drain).first.onset.step, 16);
  EXPECT_EQ(timeline.of(TimelineEvent::gradient_sink).first.onset.step, 4);
  EXPECT_EQ(timeline.of(TimelineEvent::gradient_sink).first.onset.before, 2);
  EXPECT_EQ(timeline.of(TimelineEvent::norm_growth).first.onset.step, 32);
  EXPECT_EQ(timeline.of(TimelineEvent::sink).first.head, 0);
  EXPECT_EQ(timeline.of(TimelineEvent::norm_growth).first.head, -1);
  const Timeline other = timeline_of(read_measured(folder_ / "v-scale", "v-scale"), {});
  EXPECT_EQ(other.of(TimelineEvent::norm_growth).first.onset.state, State::never);
  // Thresholds are settings.
  OnsetSettings settings;
  settings.norm_ratio = 1.2;
  settings.sink_score = 0.7;
  const Timeline set = timeline_of(read_measured(folder_ / "v-scale", "v-scale"), settings);
  EXPECT_EQ(set.of(TimelineEvent::norm_growth).first.onset.step, 0);
  EXPECT_EQ(set.of(TimelineEvent::sink).first.onset.state, State::never);
}

TEST_F(TimelineOfRun, NamesTheHeadThatComesFirst) {
  test::write_sample_run(folder_, {.arms = 1, .layers = 3, .heads = 4, .length = 64});
  const ReportArm arm = read_measured(folder_ / "baseline", "baseline");
  const Timeline timeline = timeline_of(arm, {});
  const EventTimeline& sink = timeline.of(TimelineEvent::sink);
  ASSERT_EQ(sink.places.size(), 12u);
  int64_t earliest = std::numeric_limits<int64_t>::max();
  for (const PlaceOnset& place : sink.places)
    if (place.onset.state == State::reached) earliest = std::min(earliest, place.onset.step);
  EXPECT_EQ(sink.first.onset.step, earliest);
  // Records without value norms by head have the ratio of the layer.
  EXPECT_EQ(timeline.of(TimelineEvent::value_drain).places.size(), 3u);
  EXPECT_EQ(timeline.of(TimelineEvent::value_drain).first.head, -1);
}

TEST_F(TimelineOfRun, IsInTheReport) {
  test::write_compared_run(folder_, 1, {test::sinking_arm(0), test::regulated_arm(0, 0)});
  write_report(folder_, folder_ / "report.html");
  std::stringstream text;
  text << std::ifstream(folder_ / "report.html").rdbuf();
  const std::string html = text.str();
  EXPECT_THAT(html, HasSubstr("<section class=\"figure\" id=\"timeline\">"));
  EXPECT_THAT(html, HasSubstr("<td data-label=\"norm growth\" class=\"words\">step 32, layer 0</td>"
                              "<td data-label=\"first\" class=\"words\">gradient sink</td>"));
  EXPECT_THAT(html, HasSubstr("<td data-label=\"norm growth\" class=\"words\">never</td>"));
  EXPECT_THAT(html,
              HasSubstr("stays beyond its threshold for 3 measurements (attention sink: sink score "
                        "&gt; 0.3, value drain: value ratio &lt; 0.5, gradient sink: R_GS &gt; 5, "
                        "norm growth: norm ratio &gt; 3)"));
  EXPECT_THAT(html, HasSubstr("<section class=\"figure\" id=\"growth\">"));
}

json reference() {
  std::ifstream file(std::string(WEIR_TEST_DATA) + "/reference/compare.json");
  return json::parse(file);
}

// SciPy's least_squares from 100 starts (tests/reference/compare_reference.py).
TEST(GrowthFit, IsAsGoodAsTheReference) {
  for (const json& known : reference().at("growth")) {
    const std::vector<int64_t> steps = known.at("steps");
    const std::vector<double> values = known.at("values");
    const GrowthFit fit = fit_growth(steps, values);
    const double noise = known.at("noise");
    const double rmse = known.at("rmse");
    EXPECT_LE(fit.rmse, rmse * (1 + 1e-4) + 1e-6);
    if (noise == 0) {
      const double expected[] = {30, 0.25, 0.004, 1.2, 2.5};
      const double found[] = {fit.amplitude, fit.lambda, fit.gamma, fit.t0, fit.level};
      for (size_t p = 0; p < 5; ++p) EXPECT_NEAR(found[p], expected[p], 1e-4 * expected[p]);
      EXPECT_NEAR(fit.r_squared, 1, 1e-10);
    }
    for (size_t i = 0; i < steps.size(); ++i)
      EXPECT_NEAR(growth_value(fit, static_cast<double>(steps[i])), values[i], 4 * noise + 1e-5);
  }
}

TEST(GrowthFit, HasTheStandardErrorsOfTheReference) {
  for (size_t c : {1, 2}) {
    const json known = reference().at("growth").at(c);
    const GrowthFit fit = fit_growth(known.at("steps").get<std::vector<int64_t>>(),
                                     known.at("values").get<std::vector<double>>());
    EXPECT_FALSE(fit.at_bound);
    const double found[] = {fit.amplitude, fit.lambda, fit.gamma, fit.t0, fit.level};
    for (size_t p = 0; p < 5; ++p) {
      const double expected = known.at("parameters")[p], error = known.at("standard_errors")[p];
      EXPECT_NEAR(found[p], expected, 0.01 * error) << c << ", parameter " << p;
      EXPECT_NEAR(fit.standard_error[p], error, 0.01 * error) << c << ", parameter " << p;
    }
  }
}

// A rise that comes late: the curve fits with lambda at its bound, and no error is stated.
TEST(GrowthFit, SaysWhereAParameterIsAtItsBound) {
  const std::vector<int64_t> steps = {0, 8, 16, 32, 64, 100, 150, 200, 250, 300, 350, 400};
  std::vector<double> values;
  for (int64_t step : steps)
    values.push_back(200 / (1 + std::exp(-(static_cast<double>(step) - 200) / 25)));
  const GrowthFit fit = fit_growth(steps, values);
  EXPECT_TRUE(fit.at_bound);
  EXPECT_GT(fit.r_squared, 0.9);
  for (double error : fit.standard_error) EXPECT_TRUE(std::isnan(error));
}

TEST(GrowthFit, HasItsExtremumWhereTheCurveIsFlat) {
  const json known = reference().at("growth").at(1);
  const GrowthFit fit = fit_growth(known.at("steps").get<std::vector<int64_t>>(),
                                   known.at("values").get<std::vector<double>>());
  ASSERT_GT(fit.peak_step, 0);
  const double top = growth_value(fit, fit.peak_step);
  EXPECT_GT(top, growth_value(fit, fit.peak_step * 0.99));
  EXPECT_GT(top, growth_value(fit, fit.peak_step * 1.01));
}

TEST(GrowthFit, NeedsMorePointsThanParameters) {
  const std::vector<int64_t> steps = {0, 1, 2, 4, 8, 16};
  const double none = std::nan("");
  const GrowthFit few = fit_growth(steps, std::vector<double>{1, 2, 3, 4, none, 6});
  EXPECT_EQ(few.points, 5);
  EXPECT_FALSE(few.fitted());
  EXPECT_EQ(growth_json(few).at("A"), "NaN");
  const GrowthFit flat = fit_growth(steps, std::vector<double>{3, 3, 3, 3, 3, 3});
  EXPECT_NEAR(flat.rmse, 0, 1e-9);
  EXPECT_TRUE(std::isnan(flat.r_squared));
}

// The same draws by Philox in Python, and the limit of all resamples (compare_reference.py).
TEST(PairedBootstrap, IsThatOfTheReference) {
  for (const json& known : reference().at("intervals")) {
    const std::vector<double> differences = known.at("differences");
    const PairedInterval interval =
        paired_interval(differences, {.confidence = known.at("confidence"),
                                      .resamples = known.at("resamples"),
                                      .seed = known.at("seed")});
    EXPECT_DOUBLE_EQ(interval.median, known.at("median").get<double>());
    EXPECT_DOUBLE_EQ(interval.low, known.at("low").get<double>());
    EXPECT_DOUBLE_EQ(interval.high, known.at("high").get<double>());
  }
  const json six = reference().at("intervals").at(1);
  const PairedInterval many =
      paired_interval(six.at("differences").get<std::vector<double>>(), {.resamples = 40'000});
  EXPECT_DOUBLE_EQ(many.low, six.at("all_low").get<double>());
  EXPECT_DOUBLE_EQ(many.high, six.at("all_high").get<double>());
}

TEST(PairedBootstrap, SaysWhatFewSeedsAreWorth) {
  EXPECT_EQ(largest_coverage(3), 0.75);
  EXPECT_EQ(largest_coverage(5), 0.9375);
  EXPECT_EQ(pairs_needed(0.95), 6u);
  EXPECT_EQ(pairs_needed(0.5), 2u);
  EXPECT_TRUE(std::isnan(paired_interval(std::vector<double>{1.0}, {}).low));
  EXPECT_TRUE(std::isnan(paired_interval(std::vector<double>{1.0, std::nan("")}, {}).high));
}

}  // namespace
}  // namespace weir
