#include "lab/report/dial_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lab/report/sample_dial.h"

namespace weir {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(DialTable, HasARowALayer) {
  EXPECT_EQ(
      dial_table(test::sample_dial("mass", 2, 3).dump()),
      "layer            mass  exponent, g frozen      of heads  exponent, g recomputed      of "
      "heads          loss\n"
      "    0  0.0687 to 17.6   1.70 [1.60, 1.80]  1.20 to 1.40       1.70 [1.60, 1.80]  1.20 "
      "to 1.40  3.50 to 3.66\n"
      "    2  0.0687 to 17.6   1.60 [1.50, 1.70]  1.20 to 1.40       1.60 [1.50, 1.70]  1.20 "
      "to 1.40  3.50 to 3.66\n"
      "\nloss 3.5000 nats of the unchanged model. Mass of token 0 from later queries, range "
      "over settings; exponent of E, the energy of the gradient at its value, against the "
      "mass, with its 95 % interval.\n"
      "|dv| <= sum a |g|: holds; worst 0.930, at most 1.00001 is allowed (layer 0, head 1)\n");
}

TEST(DialTable, OfOneLayerHasARowAHead) {
  EXPECT_THAT(
      dial_table(test::sample_dial("mass", 1, 2).dump()),
      StartsWith("layer, head            mass  exponent, g frozen  exponent, g recomputed"
                 "          loss\n"
                 "          0  0.0656 to 16.8   1.70 [1.60, 1.80]       1.70 [1.60, 1.80]  "
                 "3.50 to 3.66\n"
                 "        0.0  0.0625 to 16.0   1.20 [1.10, 1.30]       1.20 [1.10, 1.30]\n"));
}

TEST(DialTable, OfOtherDials) {
  EXPECT_THAT(dial_table(test::sample_dial("norm", 2, 1).dump()),
              StartsWith("layer            norm       slope, g frozen  settings   slope, g "
                         "recomputed  settings          loss\n"
                         "    0  0.0625 to 16.0  -1.00 [-1.10, -0.90]    9 of 9  -1.00 [-1.10, "
                         "-0.90]    9 of 9  3.50 to 3.66\n"));
  EXPECT_THAT(dial_table(test::sample_dial("mask", 1, 1).dump()),
              StartsWith("layer             sink          middle       last-four        random-1  "
                         "     random-2\n"
                         "    0  0.0625, +0.1600  0.125, +0.0900  0.250, +0.0400  0.500, +0.0100  "
                         "1.00, +0.0000\n"));
  EXPECT_THAT(dial_table(test::sample_dial("value", 1, 1).dump()),
              StartsWith("layer   0.0625    0.125"));
}

TEST(DialPage, HoldsTableSettingsAndNumbers) {
  for (const char* dial : {"mass", "norm", "value", "position", "mask"}) {
    const json record = test::sample_dial(dial, 2, 2);
    const std::string page = dial_page(record.dump(), "weir dial --text 'a & b'");
    EXPECT_THAT(page, StartsWith("<!DOCTYPE html>"));
    EXPECT_THAT(page, HasSubstr("<h1>sample</h1>"));
    EXPECT_THAT(page, HasSubstr("weir dial --text &#39;a &amp; b&#39;"));
    EXPECT_THAT(page, Not(HasSubstr("{{")));
    EXPECT_THAT(page, Not(HasSubstr("src=\"")));
    const std::string open = "<script type=\"application/json\" id=\"data\">";
    const size_t begin = page.find(open) + open.size();
    const json data = json::parse(page.substr(begin, page.find("</script>", begin) - begin));
    EXPECT_EQ(data["layers"].size(), 2u);
    EXPECT_EQ(data["settings"]["dial"], dial);
    // A figure for every dial, and what is no number is a gap.
    EXPECT_THAT(page, HasSubstr("<section class=\"figure\" id=\"loss\">"));
    EXPECT_EQ(page.find("id=\"fits\"") != std::string::npos,
              std::string("mass norm position").find(dial) != std::string::npos);
    if (std::string(dial) == "mass") {
      EXPECT_TRUE(data["layers"][0]["frozen"]["energy"][1][0].is_null());
    }
  }
}

}  // namespace
}  // namespace weir
