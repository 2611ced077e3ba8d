#include "passes/pipeline.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "models/llama.h"
#include "passes/autodiff.h"
#include "passes/loss_head.h"
#include "passes/pass_test_util.h"
#include "passes/select_inputs.h"
#include "testing/error_of.h"
#include "testing/temporary_folder.h"

namespace weir {
namespace {

using testing::HasSubstr;

bool always(const CompileOptions&) { return true; }
bool never(const CompileOptions&) { return false; }

// x -> exp x -> exp exp x ..., up to `limit` exponentials.
GraphPtr deepen(const GraphPtr& graph, int64_t limit) {
  if (count_ops(*graph, Op::exp) >= limit) return graph;
  Rewriter rewriter(*graph);
  for (int32_t id = 0; id < graph->size(); ++id)
    if (graph->node(id).op != Op::input) rewriter.copy(id);
  rewriter.output("", rewriter.add(Op::exp, {Value{rewriter.graph().size() - 1, 0}}));
  return rewriter.finish();
}

Pass deepening(const std::string& name, int64_t limit, HowOften how_often,
               Stage after = Stage::built) {
  return {
      name,         [limit](const GraphPtr& g, const CompileOptions&) { return deepen(g, limit); },
      Stage::built, after,
      how_often,    always,
      "a test"};
}

GraphPtr small_llama() {
  return build_llama(
             {.d_model = 8, .heads = 2, .kv_heads = 1, .d_head = 4, .d_ff = 12, .vocabulary = 3}, 2,
             5)
      .graph;
}

GraphPtr one_input() {
  Builder b("g");
  b.output("y", b.input("x", f32({2})));
  return b.finish();
}

TEST(Pipeline, RunsRowsOfTheStagesOnTheWay) {
  std::vector<Pass> passes = {
      deepening("once", 9, HowOften::once),
      {"skipped", [](const GraphPtr&, const CompileOptions&) -> GraphPtr { throw 1; }, Stage::built,
       Stage::built, HowOften::once, never, "a test"},
      deepening("fixed", 4, HowOften::until_fixed),
      deepening("still", 4, HowOften::until_fixed),
      {"advance", [](const GraphPtr& g, const CompileOptions&) { return g; }, Stage::built,
       Stage::differentiated, HowOften::once, never, "a test"},
  };
  CompileOptions options;
  options.stop = Stage::built;
  PipelineResult built = run_pipeline(one_input(), options, passes, {});
  EXPECT_EQ(count_ops(*built.graph, Op::exp), 4);
  ASSERT_EQ(built.passes.size(), 4u);
  EXPECT_EQ(built.passes[0].rounds, 1);
  EXPECT_TRUE(built.passes[0].changed);
  EXPECT_EQ(built.passes[1].rounds, 0);
  EXPECT_EQ(built.passes[2].rounds, 4);
  EXPECT_EQ(built.passes[3].rounds, 1);
  EXPECT_FALSE(built.passes[3].changed);
  std::string table = pass_table(built.passes);
  EXPECT_THAT(table, HasSubstr("(not asked for)\n"));
  EXPECT_THAT(table, HasSubstr("(unchanged)\n"));

  options.stop = Stage::differentiated;
  PipelineResult later = run_pipeline(built.graph, options, passes, {});
  EXPECT_EQ(later.graph->stage(), Stage::differentiated);
}

TEST(Pipeline, StopsAfterNPasses) {
  std::vector<Pass> passes = {deepening("a", 9, HowOften::once), deepening("b", 9, HowOften::once),
                              deepening("c", 9, HowOften::once)};
  CompileOptions options;
  options.stop = Stage::built;
  options.may_stop = true;
  PipelineResult result = run_pipeline(one_input(), options, passes, {.stop = 2});
  EXPECT_EQ(count_ops(*result.graph, Op::exp), 2);
  EXPECT_TRUE(result.stopped);
  options.may_stop = false;
  EXPECT_THAT(test::error_of([&] { run_pipeline(one_input(), options, passes, {.stop = 2}); }),
              testing::HasSubstr("[WEIR_DEBUG] stop=2 ends the passes at stage built, but stage "
                                 "built is needed here. Leave stop out"));
}

TEST(Pipeline, DumpsAsFiles) {
  const test::TemporaryFolder temporary;
  const std::filesystem::path folder = temporary.path() / "dumps";
  std::vector<Pass> passes = {deepening("a", 1, HowOften::once), deepening("b", 1, HowOften::once)};
  CompileOptions options;
  options.stop = Stage::built;
  run_pipeline(one_input(), options, passes, {.dump_all = true, .folder = folder.string()});
  auto text_of = [&](const char* file) {
    std::ifstream stream(folder / file);
    return std::string(std::istreambuf_iterator<char>(stream), {});
  };
  EXPECT_EQ(text_of("g-01-a.weir"),
            "# after pass 1, a\n"
            "graph g (x: f32[2]) stage=built\n"
            "  A = exp x : f32[2]\n"
            "  return A\n");
  EXPECT_EQ(text_of("g-02-b.weir"), "# after pass 2, b (unchanged)\n");
  run_pipeline(one_input(), options, passes, {.dump = {"b"}, .folder = folder.string()});
  EXPECT_THAT(text_of("g-02-b.weir"), HasSubstr("(unchanged)\ngraph g (x: f32[2]) stage=built\n"));
}

TEST(Pipeline, AFailingPassIsNamedAndItsInputSaved) {
  std::vector<Pass> passes = {
      {"breaks",
       [](const GraphPtr&, const CompileOptions&) -> GraphPtr { internal_error_at("broken"); },
       Stage::built, Stage::built, HowOften::once, always, "a test"}};
  const test::TemporaryFolder folder;
  const std::string path = folder / "weir-failed-g-breaks.weir";
  CompileOptions options;
  options.stop = Stage::built;
  try {
    run_pipeline(one_input(), options, passes, {.folder = folder.path().string()});
    FAIL() << "expected an InternalError";
  } catch (const InternalError& error) {
    EXPECT_THAT(error.what(), HasSubstr("In pass breaks; its input is saved as " + path));
  }
  std::ifstream saved(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(saved), {}), print_graph(*one_input()));
}

TEST(Pipeline, APassThatNeverSettlesIsOurBug) {
  const test::TemporaryFolder folder;
  std::vector<Pass> passes = {deepening("endless", 1000000, HowOften::until_fixed)};
  CompileOptions options;
  options.stop = Stage::built;
  try {
    run_pipeline(one_input(), options, passes, {.folder = folder.path().string()});
    FAIL() << "expected an InternalError";
  } catch (const InternalError& error) {
    EXPECT_THAT(error.what(), HasSubstr("not settled after 100 rounds"));
  }
}

TEST(Pipeline, VerifiesAtStagesAndAfterEveryPassOnRequest) {
  std::vector<Pass> passes = {deepening("a", 1, HowOften::once), deepening("b", 2, HowOften::once),
                              deepening("c", 3, HowOften::once, Stage::differentiated)};
  Verifier before = pipeline_verifier();
  int calls = 0;
  pipeline_verifier() = [&](const Graph&) { ++calls; };
  CompileOptions options;
  options.stop = Stage::differentiated;
  run_pipeline(one_input(), options, passes, {});
  EXPECT_EQ(calls, 2);
  run_pipeline(one_input(), options, passes, {.verify = true});
  EXPECT_EQ(calls, 6);
  pipeline_verifier() = before;
}

TEST(Pipeline, AGraphBeyondTheWantedStageIsRefused) {
  CompileOptions options;
  options.stop = Stage::built;
  EXPECT_EQ(
      user_error_of([&] { run_pipeline(with_stage(one_input(), Stage::lowered), options); }),
      "[pipeline] graph g is lowered already, so it cannot be brought to stage built. Ask for "
      "lowered or a later stage.");
}

TEST(Pipeline, GradientsAreChosenByGlob) {
  GraphPtr model = small_llama();
  CompileOptions options;
  options.gradients = {"model.layers.*.self_attn.?_proj.weight"};
  options.stop = Stage::differentiated;
  GraphPtr after = run_pipeline(model, options).graph;
  std::vector<std::string> outputs;
  for (const Output& output : after->outputs()) outputs.push_back(output.name);
  EXPECT_THAT(outputs, testing::ElementsAre("loss", "grad.model.layers.0.self_attn.q_proj.weight",
                                            "grad.model.layers.0.self_attn.k_proj.weight",
                                            "grad.model.layers.0.self_attn.v_proj.weight",
                                            "grad.model.layers.0.self_attn.o_proj.weight"));
  EXPECT_EQ(select_inputs(*model, {"loss_scale", "model.norm*"}).size(), 2u);
  // Each logit is computed once.
  EXPECT_EQ(count_ops(*after, Op::linear_cross_entropy), 0);
  EXPECT_EQ(count_ops(*after, Op::linear_cross_entropy_grad), 1);
  EXPECT_EQ(count_ops(*after, Op::identity), 0);

  options.gradients = {"*", "model.layers.0.self_attn.v_prj.weight", "targets"};
  EXPECT_EQ(user_error_of([&] { run_pipeline(model, options); }),
            "[gradients] 2 problems:\n"
            "  - 'model.layers.0.self_attn.v_prj.weight' is no floating-point input of graph "
            "llama. Did you mean model.layers.0.self_attn.v_proj.weight, "
            "model.layers.0.self_attn.q_proj.weight or model.layers.0.self_attn.k_proj.weight?\n"
            "  - 'targets' is no floating-point input of graph llama.");
}

TEST(Pipeline, SimplifyKeepsGradients) {
  GraphPtr model = apply_v_scale(small_llama(), {.variant = VScaleVariant::learned, .sigma = 0.5});
  GraphPtr plain = differentiate(fuse_loss_head(model), {.wrt = select_inputs(*model, {"*"})});
  CompileOptions options;
  options.gradients = {"*"};
  options.stop = Stage::differentiated;
  GraphPtr simplified = run_pipeline(model, options).graph;
  EXPECT_LT(simplified->size(), plain->size());
  for (const auto& [name, value] : plain->names()) EXPECT_TRUE(simplified->find(name)) << name;
  expect_same_results(*plain, *simplified, 1e-11, -0.5, 0.5);
}

TEST(Pipeline, EveryStageOfATrainingStepMeansTheSame) {
  CompileOptions options;
  options.gradients = {"*"};
  options.target = parse_target("x86-64-v3");
  for (VScaleVariant variant : {VScaleVariant::none, VScaleVariant::learned,
                                VScaleVariant::backward, VScaleVariant::forward})
    for (DecomposeMode mode : {DecomposeMode::lower, DecomposeMode::all}) {
      SCOPED_TRACE(v_scale_variant_name(variant));
      options.rewrites.v_scale.variant = variant;
      options.rewrites.v_scale.sigma = 0.5;
      options.decompose = mode;
      options.stop = Stage::differentiated;
      GraphPtr reference = run_pipeline(small_llama(), options).graph;
      for (Stage stage : {Stage::instrumented, Stage::lowered, Stage::fused, Stage::planned}) {
        SCOPED_TRACE(stage_name(stage));
        options.stop = stage;
        GraphPtr straight = run_pipeline(small_llama(), options).graph;
        EXPECT_EQ(straight->stage(), stage);
        expect_same_results(*reference, *straight, 1e-11, -0.5, 0.5);
        // From an earlier stage the same program comes out as from the start.
        EXPECT_EQ(print_graph(*run_pipeline(reference, options).graph), print_graph(*straight));
      }
    }
}

TEST(Pipeline, StagesOfTheTableFollowEachOther) {
  std::set<std::string> names;
  Stage stage = Stage::built;
  for (const Pass& pass : pipeline()) {
    EXPECT_TRUE(names.insert(pass.name).second) << pass.name;
    EXPECT_LE(stage, pass.before) << pass.name;
    EXPECT_LE(pass.before, pass.after) << pass.name;
    EXPECT_FALSE(pass.reason.empty()) << pass.name;
    stage = pass.after;
  }
}

}  // namespace
}  // namespace weir
