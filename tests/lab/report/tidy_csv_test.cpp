// Tidy CSV: every number of runs and records once, as other programs read it.
#include "lab/report/tidy_csv.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <sstream>

#include "lab/report/sample_run.h"
#include "testing/error_of.h"
#include "testing/peers.h"
#include "testing/temporary_folder.h"

namespace weir {
namespace {

using nlohmann::json;
using test::error_of;
using test::read_all;
using ::testing::HasSubstr;

std::vector<std::string> lines_of(const std::string& file) {
  std::istringstream text(read_all(file));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

// A run of two arms whose records have a NaN, and whose second arm has a name with a comma in it.
std::vector<TidySource> sample(const test::TemporaryFolder& folder) {
  test::write_sample_run(folder.path(),
                         {.arms = 2, .layers = 3, .heads = 2, .length = 8, .last_step = 150});
  const std::string records = folder / "baseline/metrics.jsonl";
  std::string text = read_all(records);
  const std::string rate = "\"sink_rate\":0";
  text.replace(text.find(rate), rate.size(), "\"sink_rate\":\"NaN\"");
  std::ofstream(records, std::ios::binary) << text;
  test::write_text(folder.path() / "baseline/validation.jsonl",
                   "{\"step\":0,\"loss\":\"Infinity\",\"tokens\":64}\n");
  return {{"baseline", folder / "baseline/metrics.jsonl", folder / "baseline/loss.jsonl",
           folder / "baseline/validation.jsonl"},
          {"V-scale, \"full\"", folder / "v-scale-full/metrics.jsonl",
           folder / "v-scale-full/loss.jsonl", folder / "v-scale-full/validation.jsonl"}};
}

TEST(TidyCsv, HasEveryNumberOnce) {
  test::TemporaryFolder folder;
  const int64_t rows = write_tidy_csv(folder / "a.csv", sample(folder));
  const std::vector<std::string> lines = lines_of(folder / "a.csv");
  EXPECT_EQ(lines[0], kTidyHeader);
  EXPECT_EQ(std::ssize(lines), rows + 1);
  const std::set<std::string> all(lines.begin(), lines.end());
  EXPECT_EQ(all.size(), lines.size()) << "a row is there twice";
  // One of each kind first: layer and head, layer and token, layer alone, none.
  const std::vector<std::string> kinds = {"0,baseline,0,,0,", "0,baseline,0,0,,", "0,baseline,0,,,",
                                          "0,baseline,,,,loss,"};
  std::set<std::string> first;
  for (size_t i = 1; i <= kinds.size(); ++i)
    for (const std::string& kind : kinds)
      if (lines[i].starts_with(kind)) first.insert(kind);
  EXPECT_EQ(first.size(), kinds.size());
  const json record = json::parse(lines_of(folder / "baseline/metrics.jsonl")[1]);
  const auto value = [](const json& number) {
    std::string text = fmt::format("{}", number.get<double>());
    return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
  };
  const json& layer = record["layers"][2];
  for (const std::string& row :
       {fmt::format("1,baseline,2,1,,sink_score,{}", value(layer["sink_score"][1])),
        fmt::format("1,baseline,2,,7,norm.resid_post,{}", value(layer["norm"]["resid_post"][7])),
        fmt::format("1,baseline,2,,3,bloat_mlp,{}", value(layer["bloat_mlp"][3])),
        fmt::format("1,baseline,2,,,gradient_sink_ratio,{}", value(layer["gradient_sink_ratio"])),
        fmt::format("1,baseline,,,,loss,{}", value(record["loss"])),
        std::string("1,baseline,2,,,massive_activations.count,0.0"),
        std::string("0,baseline,0,,,sink_rate,NaN"), std::string("0,baseline,1,,,sink_rate,0.0"),
        std::string("0,baseline,,,,validation.loss,inf"),
        std::string("7,baseline,,,,train.lr,0.01"),
        std::string("7,baseline,,,,train.tokens_per_second,100000.0"),
        std::string("7,\"V-scale, \"\"full\"\"\",,,,train.grad_norm,0.8")})
    EXPECT_TRUE(all.contains(row)) << row;
}

TEST(TidyCsv, TakesChosenMetricsAndRecordsOnSeveralLines) {
  test::TemporaryFolder folder;
  const std::vector<TidySource> sources = sample(folder);
  const int64_t rows = write_tidy_csv(folder / "a.csv", sources, {"sink_s*", "loss"});
  std::set<std::string> metrics;
  for (const std::string& line : lines_of(folder / "a.csv"))
    if (line != kTidyHeader) {
      const std::string rest = line.substr(0, line.rfind(','));
      metrics.insert(rest.substr(rest.rfind(',') + 1));
    }
  EXPECT_EQ(metrics,
            (std::set<std::string>{"loss", "sink_score", "sink_score_null", "sink_second_moment"}));
  EXPECT_GT(rows, 100);
  json record = json::parse(lines_of(folder / "baseline/metrics.jsonl")[1]);
  record.erase("step");
  record["layers"][0]["value_norm_by_head"] = {{1, 2, 3, 0, 0, 0, 0, 0}, {4, 5, 6, 0, 0, 0, 0, 0}};
  test::write_text(folder.path() / "one.json", record.dump(2));
  write_tidy_csv(folder / "b.csv", {{"one", folder / "one.json"}});
  EXPECT_THAT(read_all(folder / "b.csv"),
              ::testing::AllOf(HasSubstr("\n,one,0,1,2,value_norm_by_head,6.0\n"),
                               HasSubstr("\n,one,,,,loss,")));
}

TEST(TidyCsv, SaysWhatIsWrong) {
  test::TemporaryFolder folder;
  const std::vector<TidySource> sources = sample(folder);
  EXPECT_EQ(error_of([&] { write_tidy_csv(folder / "a.csv", sources, {"sink_scor", "zzz"}); }),
            "[export] 2 problems:\n  - no metric matches 'sink_scor'. Did you mean sink_score, "
            "sink_mass or sink_rate?\n  - no metric matches 'zzz'.");
  EXPECT_FALSE(std::filesystem::exists(folder / "a.csv")) << "whole or not at all";
  test::write_text(folder.path() / "eval.json", "{\"format\":\"weir.eval/1\"}");
  EXPECT_EQ(error_of([&] { write_tidy_csv(folder / "a.csv", {{"e", folder / "eval.json"}}); }),
            fmt::format("[export] {} is of the format weir.eval/1, but a record of the format "
                        "weir.measure/1 is needed, as `weir measure` writes it, or the folder of a "
                        "run.",
                        folder / "eval.json"));
  test::write_text(folder.path() / "cut.jsonl",
                   lines_of(folder / "baseline/metrics.jsonl")[0] + "\n{\"format\":\n");
  EXPECT_THAT(error_of([&] { write_tidy_csv(folder / "a.csv", {{"c", folder / "cut.jsonl"}}); }),
              HasSubstr("cut.jsonl:2: this line is damaged"));
  EXPECT_FALSE(std::filesystem::exists(folder / "a.csv"));
}

// Also where the first hundreds of rows of a part have no layer, head or token.
TEST(TidyCsv, PandasPolarsAndDuckDbReadIt) {
  const std::string python = test::peers_with({"pandas", "polars", "duckdb"});
  if (python.empty())
    GTEST_SKIP() << "no pandas, polars and duckdb in the virtual environment of `make peers`";
  test::TemporaryFolder folder;
  std::vector<TidySource> sources = sample(folder);
  sources[1].arm = "full";
  for (const std::vector<std::string>& metrics :
       std::vector<std::vector<std::string>>{{}, {"train.*", "sink_score", "bloat_mlp"}}) {
    const int64_t rows = write_tidy_csv(folder / "a.csv", sources, metrics);
    double sum = 0;
    int64_t finite = 0, by_layer = 0;
    for (const std::string& line : lines_of(folder / "a.csv")) {
      if (line == kTidyHeader) continue;
      const double value = std::stod(line.substr(line.rfind(',') + 1));
      if (std::isfinite(value)) sum += value, ++finite;
      const size_t arm = line.find(',', line.find(',') + 1);
      by_layer += line[arm + 1] != ',';
    }
    const json read = test::ask_peer(python, "read_csv.py", {folder / "a.csv"});
    for (const char* program : {"pandas", "polars", "duckdb"}) {
      const json& found = read[program];
      EXPECT_EQ(found["types"],
                (json{"number", "text", "number", "number", "number", "text", "number"}))
          << program;
      EXPECT_EQ(found["rows"], rows) << program;
      EXPECT_EQ(found["finite"], finite) << program;
      EXPECT_NEAR(found["sum"].get<double>(), sum, 1e-9 * std::abs(sum)) << program;
      EXPECT_EQ(found["by_layer"], by_layer) << program;
      EXPECT_EQ(found["layers"], (json{0, 1, 2})) << program;
      EXPECT_EQ(found["arms"], (json{"baseline", "full"})) << program;
      EXPECT_EQ(found["metrics"], read["pandas"]["metrics"]) << program;
    }
  }
}

}  // namespace
}  // namespace weir
