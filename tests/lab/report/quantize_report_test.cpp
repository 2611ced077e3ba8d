#include "lab/report/quantize_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lab/report/sample_quantize.h"

namespace weir {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST(QuantizeTable, HasARowAnArmAndWhatItSays) {
  EXPECT_EQ(
      quantize_table(test::sample_quantize(2, 1).dump()),
      "arm        perplexity          difference          sink damage\n"
      "f32              20.0\n"
      "weights-8        20.2  +0.20 [0.10, 0.30]                    -\n"
      "per-token        20.4  +0.40 [0.30, 0.50]  +0.02 [-0.08, 0.12]\n"
      "static            240           destroyed   +2.25 [2.15, 2.35]\n"
      "\n"
      "Texts: 1 wiki.txt. Differences are in perplexity, with 95 % bootstrap intervals over 32 "
      "sequences (2000 resamples, seed 1); destroyed: more than 10.0 times that of f32. Sink "
      "damage, in nats, is what is gained where token 0 is kept exact and left out of every "
      "scale.\n"
      "Sink damage on the first text, largest first: static 2.25, per-token 0.0180.\n"
      "Of the 2.50 nats that static costs there, 90 % are gone where the sink token is exempt.\n"
      "static rounds more than 90 % of these activations to zero: 0 down_proj.\n");
  EXPECT_THAT(quantize_table(test::sample_quantize(2).dump()),
              AllOf(HasSubstr("perplexity 1"), HasSubstr("sink damage 2")));
}

TEST(QuantizeTable, OfKnownAnswersHasLossesAndWhatIsRecalled) {
  EXPECT_EQ(
      quantize_table(test::sample_recalled(2).dump()),
      "arm        loss           difference  recalled          sink damage  sink exact\n"
      "f32        3.00                         98.0 %\n"
      "weights-8  3.01  +0.01 [-0.09, 0.11]    88.0 %                    -           -\n"
      "per-token  3.02  +0.02 [-0.08, 0.12]    78.0 %  +0.02 [-0.08, 0.12]      90.0 %\n"
      "static     5.50   +2.50 [2.40, 2.60]    68.0 %   +2.25 [2.15, 2.35]      90.0 %\n"
      "\n"
      "Evaluated: held-out data of the run. Loss is the mean of 12 targets in nats, recalled the "
      "share of them whose logit is the largest. Intervals are of 95 %, by the bootstrap over 32 "
      "sequences (2000 resamples, seed 1). Sink damage, in nats, is what is gained where token 0 "
      "is "
      "kept exact and left out of every scale; sink exact is the share recalled then.\n"
      "Sink damage on the first text, largest first: static 2.25, per-token 0.0180.\n"
      "Of the 2.50 nats that static costs there, 90 % are gone where the sink token is exempt.\n"
      "static rounds more than 90 % of these activations to zero: 0 down_proj.\n");
}

TEST(QuantizePage, OfKnownAnswersHasNoSequences) {
  const std::string page = quantize_page(test::sample_recalled(1).dump(), "weir quantize");
  EXPECT_THAT(page,
              AllOf(HasSubstr(">recalled</th>"), HasSubstr("\"recalled\":0.98"),
                    Not(HasSubstr("sequence_recalled")), HasSubstr("32 × 256 tokens · V-scale")));
}

TEST(QuantizePage, HoldsTablesAndNumbers) {
  const std::string page =
      quantize_page(test::sample_quantize(3).dump(), "weir quantize --text 'a & b'");
  EXPECT_THAT(page, StartsWith("<!DOCTYPE html>"));
  EXPECT_THAT(
      page,
      AllOf(HasSubstr("<h1>sample</h1>"), HasSubstr("weir quantize --text &#39;a &amp; b&#39;"),
            HasSubstr("<b>static</b>: a &lt; b"), Not(HasSubstr("{{")), Not(HasSubstr("src=\""))));
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = page.find(open) + open.size();
  const json data = json::parse(page.substr(begin, page.find("</script>", begin) - begin));
  EXPECT_EQ(data["arms"].size(), 3U);
  EXPECT_FALSE(data["arms"][1]["corpora"][0].contains("sequence_loss"));
  EXPECT_TRUE(data["arms"][2]["sites"]["median_error"][0].is_null());  // what is no number is a gap
  EXPECT_TRUE(data["arms"][0]["sites"]["error"][0].is_null());
}

}  // namespace
}  // namespace weir
