#include "lab/report/specialize_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lab/report/sample_specialize.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// Blanks between columns as one, so that a number is looked for and not its place.
std::string squeezed(const std::string& text) {
  std::string result;
  for (const char c : text)
    if (c != ' ' || result.empty() || result.back() != ' ') result += c;
  return result;
}

TEST(SpecializeTable, HasARowACaseAndDimension) {
  EXPECT_THAT(
      squeezed(specialize_table(test::sample_specialize("dynamics").dump())),
      AllOf(StartsWith("law activation heads D steps loss Bayes risk excess learnt all in order "
                       "moved dev. of r without rate\n"),
            HasSubstr("\nflipped softmax 2 100 1000 0.5 0.4 2 of 3 2 of 2 3 0.2 0.25\n"),
            HasSubstr("\none-sided bayes-softmax 2 1600 16000 0.5 0.4 0.1 2 of 3 2 of 2 3 0.05 "
                      "0.25\n"),
            HasSubstr("an overlap of 0.5 of its strength")));
  EXPECT_THAT(squeezed(specialize_table(test::sample_specialize("risk").dump())),
              HasSubstr("\nflipped softmax 2 3 0.2 0.2333 0.03333 0.0001\n"));
  EXPECT_THAT(squeezed(specialize_table(test::sample_specialize("pruning").dump())),
              AllOf(HasSubstr("\nflipped softmax 4 0.3 0.31 0 0 to 1 3 2\n"),
                    HasSubstr("above 1.01 times")));
}

TEST(SpecializePage, HasItsFiguresAndEscapesItsName) {
  const std::string dynamics =
      specialize_page(test::sample_specialize("dynamics").dump(), "weir specialize a='<b>'");
  EXPECT_THAT(dynamics, AllOf(HasSubstr("<h1>A sample &amp; more</h1>"),
                              HasSubstr("weir specialize a=&#39;&lt;b&gt;&#39;"),
                              HasSubstr("falls as D to the power -0.5 (-0.52 to -0.48)"),
                              HasSubstr("<h2>Overlaps of heads and directions</h2>"),
                              HasSubstr("<section class=\"figure\" id=\"deviation\">")));
  nlohmann::json random = test::sample_specialize("dynamics");
  for (auto& one : random["cases"]) {
    one["dynamics"].erase("deviation_fit");
    for (auto& run : one["dynamics"]["dimensions"]) run.erase("deviation");
  }
  EXPECT_THAT(specialize_page(random.dump(), "weir specialize"),
              Not(HasSubstr("<section class=\"figure\" id=\"deviation\">")));
  EXPECT_THAT(specialize_page(test::sample_specialize("pruning").dump(), "weir specialize"),
              HasSubstr("<h2>Risk by heads removed</h2>"));
}

}  // namespace
}  // namespace weir
