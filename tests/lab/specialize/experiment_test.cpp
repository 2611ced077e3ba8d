#include "lab/specialize/experiment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "lab/specialize/dynamics.h"
#include "lab/specialize/pruning.h"
#include "lab/specialize/specialize.h"
#include "testing/error_of.h"
#include "testing/temporary_folder.h"

namespace weir {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

SpecializeConfig config_of(const std::vector<std::string>& words) {
  UsageProblems problems("specialize");
  SpecializeConfig config = read_specialize(words, problems);
  problems.raise();
  return config;
}

json record_of(const std::vector<std::string>& words) {
  return json::parse(
      run_specialize(config_of(words), "weir specialize", [](const std::string&) {}));
}

TEST(SpecializeConfig, IsReadFromJsonAndWords) {
  const test::TemporaryFolder folder;
  std::ofstream(folder.path() / "a.json")
      << R"({"law": ["flipped", "one-sided"], "strengths": [2, 1], "start": "planted",
             "start_m": [[0.5, 0], [0, -0.25]], "heads": [2], "flow": false, "eta_0": 0.5})";
  const SpecializeConfig config = config_of({folder / "a.json", "eta_0=0.75", "tokens=4"});
  EXPECT_EQ(config.law, "flipped,one-sided");
  EXPECT_EQ(config.start_m, "0.5,0;0,-0.25");
  EXPECT_FALSE(config.flow);
  EXPECT_EQ(config.eta_0, 0.75);  // the later word
  UsageProblems problems("specialize");
  const std::vector<SpecializeCase> cases = specialize_cases(config, problems);
  ASSERT_EQ(cases.size(), 2u);
  EXPECT_EQ(cases[1].law, "one-sided");
  EXPECT_EQ(cases[1].model.tokens, 4);
  EXPECT_EQ(specialize_start(config, cases[0]).at.m(1, 1), -0.25);
}

TEST(SpecializeConfig, NamesEverythingThatIsWrong) {
  const test::TemporaryFolder folder;
  std::ofstream(folder.path() / "list.json") << "[1]";
  EXPECT_THAT(
      test::error_of([&] {
        config_of({"strenghts=2", "law=round", "tokens=1", "start_m=1,2;3", "later_rates=5",
                   folder / "list.json", folder / "none.json"});
      }),
      AllOf(HasSubstr("unknown key 'strenghts'. Did you mean strengths?"),
            HasSubstr("law is 'round', but names out of flipped, one-sided, gaussian, discrete"),
            HasSubstr("tokens"), HasSubstr("start_m is '1,2;3', but rows of numbers"),
            HasSubstr("later_rates is '5', but pairs time:eta_0"),
            HasSubstr("list.json is no JSON object"), HasSubstr("none.json")));
  EXPECT_THAT(test::error_of([] {
                run_specialize(
                    config_of({"start=planted", "start_m=1,2", "heads=3", "tie=opposite"}), "",
                    [](const std::string&) {});
              }),
              AllOf(HasSubstr("start_m has 1 rows of 2 numbers, but 3 heads and 2 directions"),
                    HasSubstr("tie=opposite needs pairs of heads, but there are 3.")));
}

// One head at each of two directions, and one that does nothing: it goes first, at no cost.
TEST(Pruning, RemovesTheHeadThatCostsLeast) {
  const double strengths[] = {2.5, 2.5}, weights[] = {0.5, 0.5};
  const LimitModel model{SignalLaw::one_sided_spikes(strengths, weights), 3,
                         HeadActivation::kBayesSoftmax};
  Eigen::MatrixXd m(3, 2);
  m << 2.5, 0, 0, 0, 0, 2.5;
  // A bias of 40 takes the head in the middle out of the competition.
  const OrderParameters at = spanned_parameters(m, Eigen::Vector3d(3.1, 40, 3.1));
  RuleSettings rule;
  rule.lattice_points = 512;
  const PruningCurve curve = pruning_curve(model, at, rule, 0.01);
  EXPECT_EQ(curve.removed[0], 1);
  EXPECT_EQ(curve.removable, 1);
  ASSERT_EQ(curve.risk.size(), 3u);
  EXPECT_NEAR(curve.risk[1].value, curve.risk[0].value, 2e-3);
  EXPECT_GT(curve.risk[2].value, 1.5 * curve.risk[0].value);
  for (size_t i = 1; i < 3; ++i) {
    std::vector<int64_t> kept;
    for (int64_t h = 0; h < 3; ++h)
      if (std::find(curve.removed.begin(), curve.removed.begin() + i, h) ==
          curve.removed.begin() + i)
        kept.push_back(h);
    EXPECT_EQ(limit_risk(model, kept_heads(at, kept), rule).value, curve.risk[i].value);
  }
}

TEST(LearningOrderOfRuns, IsThatOfTheOverlaps) {
  const double strengths[] = {2, 1}, weights[] = {0.5, 0.5};
  const SignalLaw law = SignalLaw::one_sided_spikes(strengths, weights);
  Simulation simulation;
  const auto add = [&](double time, const Eigen::Matrix2d& one, const Eigen::Matrix2d& other) {
    SimulationPoint point;
    point.time = time;
    for (const Eigen::Matrix2d& m : {one, other})
      point.at.push_back(spanned_parameters(m, Eigen::Vector2d(0, 0)));
    simulation.points.push_back(point);
  };
  Eigen::Matrix2d none, first, second, both, swapped;
  none << 0.1, 0, 0, 0.1;
  first << 1.2, 0, 0, 0.1;
  second << 0, 0.6, 0, 0.1;
  both << 1.2, 0, 0, 0.9;
  swapped << 0, 0.9, -1.4, 0;
  add(0, none, none);
  add(1, first, second);
  add(2, both, none);  // the second run forgets again
  add(3, both, swapped);
  const LearningOrder order = learning_order(simulation, law, 0.5);
  EXPECT_THAT(order.learnt_at[0], ElementsAre(1, 2));
  EXPECT_THAT(order.learnt_at[1], ElementsAre(3, 3));
  EXPECT_THAT(order.moves, ElementsAre(0, 0));
  EXPECT_EQ(order.complete, 2);
  EXPECT_EQ(order.in_order, 2);
  add(4, swapped, both);  // now heads of both have moved, and the second one is late
  const LearningOrder moved = learning_order(simulation, law, 0.5);
  EXPECT_THAT(moved.moves, ElementsAre(2, 2));
  simulation.points = {simulation.points[0], simulation.points[1]};
  EXPECT_EQ(learning_order(simulation, law, 0.5).complete, 0);
}

TEST(Specialize, RecordsEveryExperiment) {
  const json dynamics = record_of({"strengths=2,1.5", "heads=2", "dimensions=40,80,160", "seeds=3",
                                   "start=planted", "start_m=0.6,0.1;-0.2,0.5", "end=0.5",
                                   "measurements=3", "lattice_points=128", "samples=3000"});
  EXPECT_EQ(dynamics.at("format"), "weir.specialize/1");
  EXPECT_EQ(dynamics.at("settings").at("heads"), json({2}));
  const json& run = dynamics.at("cases").at(0).at("dynamics");
  EXPECT_EQ(run.at("dimensions").size(), 3u);
  EXPECT_EQ(run.at("dimensions").at(1).at("m").at(2).at(1).at(1).size(), 2u);
  EXPECT_EQ(run.at("deviation_fit").at("points"), 3);
  EXPECT_LT(run.at("deviation_fit").at("exponent"), 0);
  EXPECT_EQ(run.at("flow").at("m").size(), 3u);
  EXPECT_EQ(run.at("excess").size(), 3u);
  EXPECT_NEAR(run.at("dimensions").at(0).at("deviation").at(0).get<double>(), 0, 1e-6);

  const json risk = record_of({"experiment=risk", "strengths=1", "heads=2", "factors=1,2",
                               "random_starts=0", "lattice_points=128"});
  const json& curve = risk.at("cases").at(0).at("risk");
  EXPECT_EQ(curve.at("factor"), json({1, 2}));
  // Two heads are as many as there are points: the posterior.
  EXPECT_LT(curve.at("excess").at(1).at("value"), 1e-10);

  const json pruning = record_of({"experiment=pruning", "law=one-sided", "strengths=2", "heads=3",
                                  "dimensions=50", "seeds=2", "end=1", "lattice_points=128"});
  const json& pruned = pruning.at("cases").at(0).at("pruning");
  EXPECT_EQ(pruned.at("support"), 1);
  EXPECT_EQ(pruned.at("curves").size(), 2u);
  EXPECT_EQ(pruned.at("curves").at(0).at("risk").size(), 3u);
}

}  // namespace
}  // namespace weir
