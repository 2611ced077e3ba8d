#include "lab/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "lab/measure/attention_map.h"
#include "lab/report/profile_json.h"
#include "lab/report/report_page.h"
#include "lab/report/report_summary.h"
#include "lab/report/sample_run.h"
#include "support/error.h"
#include "testing/error_of.h"
#include "testing/temporary_folder.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string read_text(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

class Report : public testing::Test {
 protected:
  std::string page() {
    write_report(folder_, folder_ / "report.html");
    return read_text(folder_ / "report.html");
  }

  /// The page without plotly.js, which is data here and not ours.
  std::string own_page() {
    std::string html = page();
    const size_t begin = html.find("id=\"plotly\">"), end = html.find("</script>", begin);
    EXPECT_GT(end - begin, 1'000'000u) << "plotly.js is not in the page";
    return html.erase(begin, end - begin);
  }

  json data_of(const std::string& html) {
    const std::string mark = "id=\"data\">";
    const size_t begin = html.find(mark) + mark.size();
    return json::parse(html.substr(begin, html.find("</script>", begin) - begin));
  }

  std::string error() {
    try {
      write_report(folder_, folder_ / "report.html");
    } catch (const UserError& problem) {
      return problem.what();
    }
    return "no error";
  }

  /// Changes one field of one line of the first arm's records.
  template <typename Change>
  void change_record(size_t line, Change change) {
    const fs::path file = folder_ / "baseline/metrics.jsonl";
    std::istringstream lines(read_text(file));
    std::string text, result;
    for (size_t i = 1; std::getline(lines, text); ++i) {
      json record = json::parse(text);
      if (i == line) change(record);
      result += record.dump() + "\n";
    }
    test::write_text(file, result);
  }

  const test::TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path() / "run";
};

TEST_F(Report, HasEverySection) {
  test::write_sample_run(folder_, {.length = 16, .last_step = 8});
  const std::string html = own_page();
  for (const char* id : {"summary", "effect", "reading", "loss", "sink", "gradient", "norms",
                         "values", "paths", "map", "branches", "outliers", "configuration"})
    EXPECT_THAT(html, HasSubstr(fmt::format("<section {}id=\"{}\">",
                                            html.find(fmt::format("class=\"figure\" id=\"{}\"",
                                                                  id)) == std::string::npos
                                                ? ""
                                                : "class=\"figure\" ",
                                            id)));
  EXPECT_THAT(html, HasSubstr("What V-scale did and did not change"));
  EXPECT_THAT(html, HasSubstr("weir train task=bigram-backcopy"));
  EXPECT_THAT(html, HasSubstr("<th scope=\"row\">optimizer.rate</th><td>0.01</td>"));
  EXPECT_THAT(html, HasSubstr("mean of G<sub>t</sub> over tokens 0 &hellip; 31 without token 0"));
  EXPECT_THAT(html, HasSubstr("model.v_scale=full"));
  EXPECT_THAT(html, Not(HasSubstr("{{")));
}

TEST_F(Report, ArmsWithThreeNumbersForAKeyAreDoseAndResponse) {
  test::write_sample_run(folder_, {.arms = 5, .length = 16, .last_step = 8, .dose = true});
  const std::string html = own_page();
  EXPECT_THAT(html, HasSubstr("<h2>Dose and response: sink_gradient.gain</h2>"));
  EXPECT_THAT(html, HasSubstr("A mark is one of the 5 arms at the chosen step"));
  const json dose = data_of(html).at("dose");
  EXPECT_EQ(dose.at("key"), "sink_gradient.gain");
  EXPECT_EQ(dose.at("values"), json::parse("[1.0, 2.0, 2.0, 4.0, 4.0]"));
  // A row a value: the mean over its arms, and how far they lie apart.
  EXPECT_THAT(html, HasSubstr("<th scope=\"row\" data-label=\"sink_gradient.gain\">1</th>"));
  EXPECT_THAT(html, HasSubstr("<td data-label=\"arms\">2</td><td data-label=\"sink score\">0."));
  fs::remove_all(folder_);
  // Two numbers are a comparison, and seeds are repetitions.
  test::write_sample_run(folder_, {.arms = 3, .length = 16, .last_step = 8, .dose = true});
  EXPECT_THAT(own_page(), Not(HasSubstr("Dose and response")));
  json run = json::parse(read_text(folder_ / "run.json"));
  for (size_t a = 0; a < 3; ++a) run["arms"][a]["overrides"] = {{"seed", a}, {"task", "words"}};
  test::write_text(folder_ / "run.json", run.dump());
  EXPECT_THAT(own_page(), Not(HasSubstr("Dose and response")));
}

TEST_F(Report, ShowsWhereTheTimeGoesWhereThereIsAProfile) {
  test::write_sample_run(folder_, {.length = 16, .last_step = 8});
  EXPECT_THAT(own_page(), Not(HasSubstr("id=\"profile\"")));
  const KernelTime kernel{.symbol = "matmul_0123456789abcdef",
                          .schedule = "matmul",
                          .makes = "blocks.*.hook_<mlp>_out",
                          .shape = "f32[4,8]",
                          .nodes = 2,
                          .runs = 10,
                          .seconds = 0.5,
                          .cost = {.products = 3e9, .others = 1e9, .bytes = 100'000'000}};
  const ProfileFacts facts{.what = "baseline",
                           .target = "host",
                           .threads = 2,
                           .steps = 5,
                           .step_seconds = 1,
                           .peak = 100e9,
                           .bandwidth = 10e9};
  test::write_text(folder_ / "baseline/profile.json", profile_json({kernel}, facts));
  const std::string html = own_page();
  EXPECT_THAT(html, HasSubstr("id=\"profile\""));
  EXPECT_THAT(html, HasSubstr("5 steps, 2 threads: 0.2 s a step, 50.0 % of it in kernels"));
  EXPECT_THAT(html, HasSubstr("blocks.*.hook_&lt;mlp&gt;_out f32[4,8]"));
  // 4e9 operations and 1e8 bytes in 0.05 s.
  EXPECT_THAT(html, HasSubstr("<td data-label=\"share of time\">100.0 %</td>"
                              "<td data-label=\"runs\">10</td><td data-label=\"ms a run\">50</td>"
                              "<td data-label=\"Gflop/s\">80.0</td>"
                              "<td data-label=\"share of peak\">80.0 %</td>"
                              "<td data-label=\"GB/s\">2.0</td>"));
}

TEST_F(Report, ADamagedProfileIsNamed) {
  test::write_sample_run(folder_, {.length = 16, .last_step = 8});
  test::write_text(folder_ / "baseline/profile.json", "{\"format\": \"other\"}");
  EXPECT_THAT(error(), HasSubstr("profile.json is no profile: its \"format\" is not "
                                 "\"weir.profile/1\"."));
  test::write_text(folder_ / "baseline/profile.json", "{\"format\": \"weir.profile/1\"}");
  EXPECT_THAT(error(), HasSubstr("a profile.json of the run is damaged"));
}

TEST_F(Report, LoadsNothingFromOutside) {
  test::write_sample_run(folder_, {.length = 16, .last_step = 8});
  const std::string html = own_page();
  EXPECT_THAT(html, Not(HasSubstr("http://")));
  EXPECT_THAT(html, Not(HasSubstr("https://")));
  EXPECT_THAT(html, Not(HasSubstr("src=")));
  EXPECT_THAT(html, Not(HasSubstr("<link")));
  EXPECT_THAT(html, Not(HasSubstr("@import")));
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
}

TEST_F(Report, TextFromTheRunCannotBecomeMarkup) {
  test::write_sample_run(folder_, {.length = 16, .last_step = 8});
  json run = json::parse(read_text(folder_ / "run.json"));
  run["command"] = "weir train '<script>alert(1)</script>'";
  run["arms"][0]["name"] = "</script><b>";
  test::write_text(folder_ / "run.json", run.dump());
  const std::string html = page();
  EXPECT_THAT(html, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(html, Not(HasSubstr("</script><b>")));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(1)"));
  EXPECT_EQ(data_of(html)["arms"][0]["name"], "</script><b>");
}

TEST_F(Report, CarriesTheMeasuredNumbers) {
  test::write_sample_run(folder_,
                         {.arms = 1, .layers = 2, .heads = 3, .length = 16, .last_step = 4});
  change_record(2, [](json& record) {
    record["layers"][1]["sink_score"] = {0.1, 0.2, 0.6};
    record["layers"][1]["norm"]["value"] =
        json::array({1, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4});
    record["layers"][1]["gradient_sink_ratio"] = 12.3456789;
  });
  const json data = data_of(page());
  const json& arm = data["arms"][0];
  EXPECT_EQ(arm["layer"]["steps"], json({0, 1, 2, 4}));
  EXPECT_EQ(arm["layer"]["series"]["sink_score"][1][1], 0.3);
  EXPECT_EQ(arm["layer"]["series"]["sink_score_max"][1][1], 0.6);
  EXPECT_EQ(arm["head"]["series"]["sink_score"][1][1], json({0.1, 0.2, 0.6}));
  EXPECT_EQ(arm["layer"]["series"]["norm.value.sink"][1][1], 1);
  EXPECT_EQ(arm["layer"]["series"]["norm.value.others"][1][1], 4);
  EXPECT_EQ(arm["layer"]["series"]["gradient_sink_ratio"][1][1], 12.346);
  EXPECT_EQ(arm["token"]["tokens"].size(), 16u);
  EXPECT_EQ(arm["training"]["step"].size(), 5u);
}

TEST_F(Report, NonNumbersAreGapsAndAreSaid) {
  test::write_sample_run(folder_, {.length = 16, .last_step = 8});
  change_record(5, [](json& record) {
    record["layers"][0]["gradient_sink_ratio"] = "NaN";
    record["layers"][0]["grad_norm"]["v"][3] = "Infinity";
    record["loss"] = "-Infinity";
  });
  const std::string html = own_page();
  const json data = data_of(html);
  EXPECT_TRUE(data["arms"][0]["layer"]["series"]["gradient_sink_ratio"][4][0].is_null());
  EXPECT_TRUE(data["arms"][0]["token"]["series"]["grad.v"][4][0][3].is_null());
  EXPECT_THAT(html, HasSubstr("numbers are NaN or infinite"));
  EXPECT_THAT(html, HasSubstr("cannot be compared in the gradient-sink ratio"));
  EXPECT_THAT(summary_table(folder_), HasSubstr("NaN"));
}

TEST_F(Report, LongSequencesAndManyLayersAreThinnedAndItIsSaid) {
  test::write_sample_run(folder_,
                         {.arms = 1, .layers = 2, .heads = 2, .length = 300, .last_step = 1600});
  const std::string html = own_page();
  const json data = data_of(html);
  const json& arm = data["arms"][0];
  EXPECT_EQ(arm["token"]["tokens"].size(), kept_tokens(300).size());
  EXPECT_LT(arm["token"]["tokens"].size(), 90u);
  EXPECT_EQ(arm["token"]["tokens"].back(), 299);
  EXPECT_LE(arm["training"]["step"].size(), 1500u);
  EXPECT_LE(arm["maps"][0]["start"].size(), 256u);
  // The sink's column keeps its scale: the mean of the map's first column over a group of queries.
  EXPECT_NEAR(arm["maps"][0]["weights"][5][0].get<double>(), 0.5 + 0.3 * std::sin(5 * 1.7), 1e-4);
  EXPECT_THAT(html, HasSubstr("attention map of baseline: 300 tokens as"));
  EXPECT_THAT(html, HasSubstr("token curves of baseline:"));
  EXPECT_LT(html.size(), 8'000'000u);
}

TEST_F(Report, SaysWhereASinkRateMeansNothing) {
  test::write_sample_run(folder_, {.length = 9, .last_step = 8});
  EXPECT_THAT(own_page(), Not(HasSubstr("The sink rate says nothing here")));
  change_record(5, [](json& record) { record["layers"][0]["sink_score_null"] = 0.3143; });
  const char* sentence =
      "The sink rate says nothing here: over 9 queries uniform attention itself has a sink score "
      "of 0.314, above the threshold of 0.3.";
  const std::string html = own_page();
  EXPECT_THAT(html, HasSubstr(sentence));
  EXPECT_THAT(html, Not(HasSubstr("attention sink formed")));
  EXPECT_THAT(summary_table(folder_), HasSubstr(sentence));
}

TEST_F(Report, NamesWhatAFewHeadsAndLayersHave) {
  test::write_sample_run(folder_, {.length = 16, .last_step = 8});
  EXPECT_THAT(own_page(), testing::AllOf(HasSubstr("Drawn: the one head."),
                                         HasSubstr("This model has one layer")));
  test::write_sample_run(folder_, {.layers = 2, .heads = 2, .length = 16, .last_step = 8});
  EXPECT_THAT(own_page(), testing::AllOf(HasSubstr("and the largest head."),
                                         Not(HasSubstr("This model has one layer"))));
}

// Maps that come as cells are shown as they are, with the first token of every cell.
TEST_F(Report, MapsOfLongSequencesComeAsCells) {
  test::write_sample_run(folder_,
                         {.arms = 1, .layers = 2, .heads = 2, .length = 300, .last_step = 8});
  const MapCells cells = map_cells(300, 40);
  const auto count = static_cast<size_t>(cells.count());
  AttentionMap map{1, 0, cells, zeros(f32({1, 1, cells.count(), cells.count()}))};
  for (size_t q = 0; q < count; ++q) map.weights.data[q * count] = 0.25;
  const std::string line = map_json(map, 8, std::vector<std::string>(count, "x"));
  test::write_text(folder_ / "baseline/maps.json", "[" + line + "]");
  const std::string html = own_page();
  const json shown = data_of(html)["arms"][0]["maps"][0];
  ASSERT_EQ(shown["start"].size(), count);
  EXPECT_EQ(shown["start"][16], 16);
  EXPECT_EQ(shown["start"][17], 16 + cells.width);
  EXPECT_EQ(shown["length"], 300);
  EXPECT_EQ(shown["weights"][20][0], 0.25);
  EXPECT_THAT(html, HasSubstr(fmt::format(
                        "attention map of baseline: 300 tokens as {0} x {0} cells: the first 16 "
                        "tokens single, the others in groups of {1}; a cell is the mean weight",
                        count, cells.width)));
  json damaged = json::parse("[" + line + "]");
  damaged[0]["start"][3] = 1;
  test::write_text(folder_ / "baseline/maps.json", damaged.dump());
  EXPECT_THAT(test::error_of([&] { own_page(); }), HasSubstr("the first tokens of cells ascend"));
}

TEST_F(Report, DamagedLineIsNamed) {
  test::write_sample_run(folder_, {.length = 16, .last_step = 8});
  const fs::path file = folder_ / "v-scale-full/metrics.jsonl";
  const std::string text = read_text(file);
  const size_t second = text.find('\n') + 1;
  test::write_text(file, text.substr(0, second + 100));
  EXPECT_THAT(error(),
              HasSubstr("v-scale-full/metrics.jsonl:2: this line is damaged at column 101 of"));
  EXPECT_FALSE(fs::exists(folder_ / "report.html"));
}

TEST_F(Report, AKeyThatIsThereTwiceIsNamed) {
  test::write_sample_run(folder_, {.length = 16, .last_step = 8});
  for (const char* name : {"metrics.jsonl", "loss.jsonl"}) {
    const fs::path file = folder_ / "v-scale-full" / name;
    const std::string text = read_text(file);
    const size_t second = text.find('\n') + 1;
    test::write_text(file, text.substr(0, second) + "{\"loss\":0," + text.substr(second + 1));
    EXPECT_THAT(error(), AllOf(HasSubstr(fmt::format("{}:2: this line is damaged: an object in it "
                                                     "has the key \"loss\" twice.",
                                                     name)),
                               HasSubstr("`weir train resume=FOLDER` with the run's folder")));
    test::write_text(file, text);
  }
}

TEST_F(Report, MissingFieldIsNamedWithFileAndLine) {
  test::write_sample_run(folder_, {.layers = 2, .length = 16, .last_step = 8});
  change_record(3, [](json& record) { record["layers"][1]["grad_norm"].erase("k"); });
  EXPECT_THAT(error(),
              HasSubstr("baseline/metrics.jsonl:3, \"layers\"[1], \"grad_norm\": the field "
                        "\"k\" is missing"));
}

TEST_F(Report, WrongValuesAreNamed) {
  test::write_sample_run(folder_, {.length = 16, .last_step = 8});
  change_record(2, [](json& record) { record["layers"][0]["sink_rate"] = "lots"; });
  EXPECT_THAT(error(),
              HasSubstr("\"sink_rate\": a number, \"NaN\", \"Infinity\" or \"-Infinity\" is "
                        "needed, found \"lots\""));
  change_record(2, [](json& record) {
    record["layers"][0]["sink_rate"] = 0;
    record["layers"][0]["norm"]["value"] = {1, 2};
  });
  EXPECT_THAT(error(), HasSubstr("\"value\": 16 tokens are needed, found 2"));
  change_record(2, [](json& record) { record["layers"].push_back(record["layers"][0]); });
  EXPECT_THAT(error(), HasSubstr("\"layers\": 1 layers are needed, found 2"));
  change_record(1, [](json& record) { record["settings"].erase("sink_threshold"); });
  EXPECT_THAT(error(), HasSubstr("metrics.jsonl:1, \"settings\": the field \"sink_threshold\" is "
                                 "missing"));
  change_record(1, [](json& record) { record["settings"]["sink_threshold"] = 0.3; });
  change_record(2, [](json& record) { record["step"] = 0; });
  EXPECT_THAT(error(), HasSubstr("\"step\": steps must ascend, found 0 after 0"));
  EXPECT_THAT(error(),
              HasSubstr("Take the line out, and `weir train resume=FOLDER` with the run's folder "
                        "computes it again."));
}

TEST_F(Report, MissingFilesAreNamed) {
  EXPECT_THAT(error(), HasSubstr("is not a folder"));
  test::write_sample_run(folder_, {.length = 16, .last_step = 8});
  fs::remove(folder_ / "baseline/metrics.jsonl");
  EXPECT_THAT(error(), HasSubstr("baseline/metrics.jsonl; a report needs it of every arm"));
  test::write_text(folder_ / "baseline/metrics.jsonl", "\n");
  EXPECT_THAT(error(), HasSubstr("holds no measured step"));
  test::write_text(folder_ / "config.json", "{");
  EXPECT_THAT(error(), HasSubstr("config.json is not valid JSON: parse error at line 1, column 2"));
}

TEST_F(Report, SummaryTableHasARowAnArm) {
  test::write_sample_run(folder_, {.arms = 3, .length = 32, .last_step = 100});
  std::istringstream table(summary_table(folder_));
  std::vector<std::string> lines;
  for (std::string line; std::getline(table, line);) lines.push_back(line);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_THAT(lines[0], HasSubstr("R_GS median"));
  EXPECT_THAT(lines[1], testing::StartsWith("baseline "));
  EXPECT_THAT(lines[3], testing::StartsWith("v-scale-learned "));
  for (const std::string& line : lines) EXPECT_EQ(line.size(), lines[0].size());
}

ArmSummary arm_with(double ratio_last, double ratio_median, double loss) {
  const OverSteps one{1, 1, 1, 1};
  ArmSummary arm{};
  arm.final_loss = loss;
  arm.sink_score = arm.sink_mass = arm.norm_ratio = arm.value_ratio = one;
  arm.gradient_sink_ratio = {1, ratio_last, ratio_median, ratio_median};
  return arm;
}

TEST(ReportVerdict, NeedsLastAndMedianToAgree) {
  using Verdict = Comparison::Verdict;
  const ArmSummary base = arm_with(20, 20, 2);
  const auto verdict = [&](double last, double middle) {
    return compare(base, arm_with(last, middle, 2)).at(3).verdict;
  };
  EXPECT_EQ(verdict(20, 21), Verdict::unchanged);
  EXPECT_EQ(verdict(5, 8), Verdict::lowered);
  EXPECT_EQ(verdict(80, 60), Verdict::raised);
  EXPECT_EQ(verdict(5, 19), Verdict::unclear);
  EXPECT_EQ(verdict(5, 80), Verdict::unclear);
  EXPECT_EQ(verdict(std::nan(""), 20), Verdict::incomparable);
}

TEST(ReportVerdict, SentenceSaysWhatDidNotChangeToo) {
  EXPECT_EQ(
      comparison_sentence(compare(arm_with(20, 20, 2), arm_with(5, 5, 2.5))),
      "lowered the gradient-sink ratio; it raised the final loss; it left the sink score, the "
      "sink mass, the residual norm ratio and the value-norm ratio where they were");
}

TEST(ReportThinning, KeepsFirstAndLastAndBothEnds) {
  std::vector<int64_t> steps;
  for (int64_t step = 0; step <= 20000; step += step < 512 ? 1 : 100) steps.push_back(step);
  const std::vector<size_t> kept = thin_steps(steps, 60);
  EXPECT_LE(kept.size(), 60u);
  EXPECT_GE(kept.size(), 40u);
  EXPECT_EQ(kept.front(), 0u);
  EXPECT_EQ(kept.back(), steps.size() - 1);
  EXPECT_EQ(steps[kept[1]], 1);
  EXPECT_EQ(thin_steps(steps, 10000).size(), steps.size());
}

TEST(ReportThinning, KeepsTheFirstTokensAndTheLast) {
  EXPECT_EQ(kept_tokens(3), (std::vector<int>{0, 1, 2}));
  const std::vector<int> kept = kept_tokens(2048);
  EXPECT_EQ(kept[31], 31);
  EXPECT_EQ(kept.back(), 2047);
  EXPECT_LE(kept.size(), 106u);
  EXPECT_TRUE(std::adjacent_find(kept.begin(), kept.end(), std::greater_equal<>()) == kept.end());
}

}  // namespace
}  // namespace weir
