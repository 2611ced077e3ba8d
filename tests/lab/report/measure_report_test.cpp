#include "lab/report/measure_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "lab/lab_test_util.h"
#include "lab/measure/token_input.h"
#include "lab/reference_case.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

Json record_of(const std::string& name) {
  return Json::parse(std::ifstream(fmt::format("{}/reference/{}.json", WEIR_TEST_DATA, name)));
}

MeasureReport report_of(const Json& record) {
  MeasureReport report{record.dump(), "weir measure --model <m> --text 'a & b'", {}, {}};
  const int64_t B = record["tokens"]["batch"], T = record["tokens"]["length"];
  for (int64_t i = 0; i < B * T; ++i) report.token_texts.push_back(fmt::format("<{}>", i));
  HostTensor map = zeros(f32({1, 1, T, T}));
  for (int64_t t = 0; t < T; ++t) map.data[static_cast<size_t>(t * T)] = 1;
  report.maps.push_back({1, 0, map_cells(T, kMapSide), map});
  return report;
}

TEST(MeasurePage, HoldsTableMassiveActivationsAndData) {
  const Json record = record_of("llama_massive");
  const std::string page = measure_page(report_of(record));
  EXPECT_THAT(page, HasSubstr("<h1>massive</h1>"));
  EXPECT_THAT(page, HasSubstr("weir measure --model &lt;m&gt; --text &#39;a &amp; b&#39;"));
  EXPECT_THAT(page, HasSubstr("Massive activations stand in the residual stream after layers"));
  const Json& largest = record["layers"][0]["massive_activations"][0];
  const int64_t token = largest["token"], T = record["tokens"]["length"];
  const int64_t at = largest["sequence"].get<int64_t>() * T + token;
  EXPECT_THAT(page, HasSubstr(fmt::format("<code>&lt;{}&gt;</code>", at)));
  EXPECT_THAT(page, HasSubstr("massive in layers"));
  EXPECT_THAT(page, Not(HasSubstr("{{")));
  EXPECT_THAT(page, Not(HasSubstr("src=\"")));
  // The numbers of the figures.
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = page.find(open) + open.size();
  const Json data = Json::parse(page.substr(begin, page.find("</script>", begin) - begin));
  EXPECT_EQ(data["arm"]["layers"], 3);
  EXPECT_EQ(data["arm"]["maps"].size(), 1);
  EXPECT_EQ(data["arm"]["maps"][0]["labels"][2], "<2>");
  EXPECT_EQ(data["scatter"]["attn"]["compress"].size(), 3);
  EXPECT_NEAR(data["scatter"]["mlp"]["norm"][1][0].get<double>(),
              record["layers"][1]["norm"]["resid_mid"][0].get<double>(),
              1e-4 * record["layers"][1]["norm"]["resid_mid"][0].get<double>());
}

TEST(MeasurePage, SaysWhenNothingIsMassiveOrANumber) {
  const std::string page = measure_page(report_of(record_of("llama_base")));
  EXPECT_THAT(page, HasSubstr("No activation of the residual stream is massive."));
  const std::string single = measure_page([] {
    MeasureReport report = report_of(record_of("llama_single"));
    report.maps.clear();
    return report;
  }());
  EXPECT_THAT(single, HasSubstr("numbers are NaN or infinite; they are gaps in the figures"));
}

TEST(MeasurePage, ShowsRowSumsWhereTheyAreNotOne) {
  const Json record = record_of("llama_softmax_1");
  const std::string page = measure_page(report_of(record));
  EXPECT_THAT(page, HasSubstr("Attention normaliser: softmax-1. Its rows do not sum to one"));
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = page.find(open) + open.size();
  const Json data = Json::parse(page.substr(begin, page.find("</script>", begin) - begin));
  const Json& heads = data["arm"]["head"]["series"]["row_sum"][0];
  ASSERT_EQ(heads.size(), record["layers"].size());
  EXPECT_NEAR(heads[0][0].get<double>(), record["layers"][0]["row_sum"][0].get<double>(), 1e-4);
  EXPECT_THAT(measure_page(report_of(record_of("llama_base"))), Not(HasSubstr("row_sum\":")));
}

TEST(PrintableToken, ShowsSpacesAndEscapesTheRest) {
  const auto bytes = load_tokenizer("bytes");
  EXPECT_EQ(printable_token(*bytes, ' '), "\u2423");
  EXPECT_EQ(printable_token(*bytes, 'a'), "a");
  EXPECT_EQ(printable_token(*bytes, '\n'), "\\n");
  EXPECT_EQ(printable_token(*bytes, 7), "\\x07");
  EXPECT_EQ(printable_token(*bytes, 200), "#200");
}

TEST(HeadsToShow, AreThoseOfLargestAndSmallestMass) {
  Json record = record_of("llama_base");
  record["layers"][0]["sink_mass"] = {3.0, 9.0, 2.0};
  record["layers"][1]["sink_mass"] = {1.5, 4.0, "NaN"};
  EXPECT_EQ(heads_to_show(record.dump()),
            (std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {1, 0}}));
}

}  // namespace
}  // namespace weir
