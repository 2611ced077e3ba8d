#include "bench/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "bench/matmul_cases.h"

namespace weir::bench {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json reading(const char* kind, const std::string& which, const char* program, int threads,
             int round, double seconds) {
  return {{"kind", kind},         {"case", which},       {"program", program},
          {"threads", threads},   {"round", round},      {"seconds", seconds},
          {"operations", 1000.0}, {"peak_before", 90.0}, {"peak_after", 110.0}};
}

json results_of(std::vector<json> readings) {
  return {{"readings", std::move(readings)}, {"absent", json::object()}};
}

const Figure& find(const std::vector<Figure>& figures, const std::string& name) {
  for (const Figure& figure : figures)
    if (name == figure.name) return figure;
  throw std::runtime_error("no figure " + name);
}

TEST(BenchSummary, HasTheAgreedNamesAndOnlyWhatWasMeasured) {
  std::vector<std::string> names;
  for (const Figure& figure : figures_of(results_of({}))) {
    names.push_back(figure.name);
    EXPECT_FALSE(figure.value) << figure.name;
    EXPECT_EQ(figure.why_absent, "no readings");
  }
  EXPECT_THAT(names, testing::ElementsAre(
                         "gemm_share_1t", "gemm_share_2t", "gemm_vs_torch", "step_share",
                         "step_vs_compile", "step_vs_eager", "step_vs_jax", "probe_overhead",
                         "probed_vs_hooks", "demo_vs_eager", "demo_share", "measure_vs_hooks",
                         "measure_share", "peak_gib", "peak_gib_recompute", "threads_2",
                         "attention_share_512", "attention_share_4096", "softpick_vs_softmax",
                         "relu_vs_softmax", "sigmoid_vs_softmax", "sink_logit_vs_softmax",
                         "bayes_softmax_vs_softmax", "compile_cold_s", "compile_warm_s"));
  EXPECT_EQ(summary_of(figures_of(results_of({}))).dump(), "{}");
}

TEST(BenchSummary, RatiosAreTakenWithinARoundAndTheirMedianCounts) {
  std::vector<json> readings;
  const double own[] = {10, 20, 10}, eager[] = {20, 60, 25}, probed[] = {10.5, 20.2, 10.1};
  for (int r = 0; r < 3; ++r) {
    readings.push_back(reading("step", "llama-0.1b", "weir", 2, r, own[r]));
    readings.push_back(reading("step", "llama-0.1b", "weir probed", 2, r, probed[r]));
    readings.push_back(reading("step", "llama-0.1b", "torch eager", 2, r, eager[r]));
  }
  readings.push_back(reading("step", "llama-0.1b", "weir", 1, 1, 38));
  const auto figures = figures_of(results_of(readings));
  EXPECT_DOUBLE_EQ(*find(figures, "step_vs_eager").value, 2.5);  // of 2, 3, 2.5
  EXPECT_DOUBLE_EQ(find(figures, "step_vs_eager").low, 2);
  EXPECT_DOUBLE_EQ(find(figures, "step_vs_eager").high, 3);
  EXPECT_DOUBLE_EQ(*find(figures, "step_vs_eager").best, 2);
  EXPECT_NEAR(*find(figures, "probe_overhead").value, 0.01, 1e-12);  // of 0.05, 0.01, 0.01
  EXPECT_DOUBLE_EQ(*find(figures, "threads_2").value, 1.9);          // in the round that has both
  // 1000 operations in 10 s at a peak of 100 a second.
  EXPECT_DOUBLE_EQ(*find(figures, "step_share").value, 1.0);
  EXPECT_DOUBLE_EQ(find(figures, "step_share").low, 0.5);
  EXPECT_FALSE(find(figures, "step_vs_jax").value);
}

TEST(BenchSummary, LessIsBetterWhereItIs) {
  std::vector<json> readings = {reading("step", "llama-0.1b", "weir", 2, 0, 10),
                                reading("step", "llama-0.1b", "weir probed", 2, 0, 10.2)};
  readings.push_back({{"kind", "memory"},
                      {"case", "llama-0.1b"},
                      {"program", "weir"},
                      {"threads", 1},
                      {"round", 0},
                      {"gib", 3.75}});
  readings.push_back({{"kind", "compile"},
                      {"case", "cold"},
                      {"program", "weir"},
                      {"threads", 1},
                      {"round", 0},
                      {"seconds", 2.5}});
  const auto figures = figures_of(results_of(readings));
  EXPECT_TRUE(find(figures, "probe_overhead").reached());
  EXPECT_FALSE(find(figures, "peak_gib").reached());
  EXPECT_DOUBLE_EQ(*find(figures, "peak_gib").value, 3.75);
  EXPECT_TRUE(find(figures, "compile_cold_s").reached());
  const std::string table = figure_table(figures);
  EXPECT_THAT(table, HasSubstr("peak_gib                  3.750"));
  EXPECT_THAT(table, HasSubstr("missed"));
}

std::vector<json> all_products(double one, double two) {
  std::vector<json> readings;
  bool odd = false;
  for (const ProductShape& shape : product_shapes()) {
    if (!shape.llama) continue;
    odd = !odd;
    for (int threads : {1, 2}) {
      readings.push_back(reading("gemm", shape.what, "weir", threads, 0, odd ? one : two));
      readings.push_back(reading("gemm", shape.what, "torch", threads, 0, 2 * one));
    }
  }
  return readings;
}

TEST(BenchSummary, ProductsCountByTheirGeometricMean) {
  const auto figures = figures_of(results_of(all_products(12.5, 20)));  // shares 0.8 and 0.5
  EXPECT_NEAR(*find(figures, "gemm_share_1t").value, std::sqrt(0.8 * 0.5), 1e-12);
  EXPECT_NEAR(*find(figures, "gemm_share_2t").value, std::sqrt(0.8 * 0.5), 1e-12);
  EXPECT_NEAR(*find(figures, "gemm_vs_torch").value, std::sqrt(2 * 1.25), 1e-12);
}

TEST(BenchSummary, AMeanOverSomeProductsIsNoFigure) {
  std::vector<json> readings = all_products(10, 10);
  readings.pop_back();
  readings.erase(readings.begin(), readings.begin() + 4);
  const auto figures = figures_of(results_of(readings));
  EXPECT_FALSE(find(figures, "gemm_share_1t").value);
  EXPECT_EQ(find(figures, "gemm_share_1t").why_absent, "11 of 12 products measured");
  EXPECT_FALSE(find(figures, "gemm_vs_torch").value);
}

TEST(BenchSummary, TheTableSaysWhyAFigureIsAbsent) {
  json results = results_of({});
  results["absent"] = {{"jax", "needs 9 GiB, 2.0 are free"}, {"threads_2", "one core"}};
  const auto figures = figures_of(results);
  EXPECT_EQ(find(figures, "step_vs_jax").why_absent, "needs 9 GiB, 2.0 are free");
  EXPECT_EQ(find(figures, "threads_2").why_absent, "one core");
  EXPECT_THAT(figure_table(figures), HasSubstr("over JAX jit - needs 9 GiB, 2.0 are free"));
}

TEST(BenchSummary, ThePageCarriesFiguresAndProfiles) {
  json results = results_of({reading("step", "demo", "weir", 2, 0, 20)});
  results["profiles"] = {{"demo", {{"format", "weir.profile/1"}, {"kernels", json::array()}}}};
  const std::string page = bench_page(results, figures_of(results));
  EXPECT_THAT(page, HasSubstr("<code>demo_share</code>"));
  EXPECT_THAT(page, HasSubstr("weir.profile/1"));
  EXPECT_THAT(page, HasSubstr("id=\"plotly\""));
  EXPECT_EQ(page.find("{{"), std::string::npos);
}

TEST(BenchProducts, LlamaHasTwelveDifferentOnes) {
  std::set<std::string> names;
  for (const ProductShape& shape : product_shapes())
    if (shape.llama) names.insert(shape.what);
  EXPECT_EQ(names.size(), 12u);
  EXPECT_DOUBLE_EQ(product_shapes()[0].operations(), 2.0 * 4096 * 512 * 512);
}

}  // namespace
}  // namespace weir::bench
