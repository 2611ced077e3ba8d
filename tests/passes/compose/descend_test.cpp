#include "passes/compose/descend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "interpret/interpret.h"
#include "ir/builder.h"
#include "passes/pipeline.h"
#include "testing/error_of.h"

namespace weir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// loss = sum (w x)^2 / 2, whose gradient is w x^2.
GraphPtr parabola(bool returns_weight = false) {
  Builder b("parabola");
  Tensor w = b.state("w", f32({2})), x = b.input("x", f32({2}));
  Tensor y = (w * x).named("hook_y");
  b.output("loss", reshape(reduce_sum(y * y, {0}) * 0.5, {}));
  if (returns_weight) b.output("w", w * 2.0);
  return b.finish();
}

CompileOptions descent_options() {
  CompileOptions options{.gradients = {"w"}};
  options.compose = {.purpose = Purpose::descend};
  return options;
}

TEST(Descend, MovesAgainstTheGradient) {
  CompileOptions options = descent_options();
  options.probes = {"w", "hook_y"};
  const Interpretation result = interpret_all(
      *run_pipeline(parabola(), options).graph,
      {{"w", {f32({2}), {3, -1}}}, {"x", {f32({2}), {2, 1}}}, {"rate", scalar(0.25)}});
  EXPECT_THAT(result.outputs.at("w").data, ElementsAre(3 - 0.25 * 12, -1 + 0.25 * 1));
  EXPECT_EQ(result.outputs.at("loss").data[0], 18.5);
  EXPECT_FALSE(result.outputs.contains("grad.w"));
  EXPECT_THAT(result.probes.at("w:raw").data, ElementsAre(3, -1));  // before the step
  EXPECT_THAT(result.probes.at("hook_y:raw").data, ElementsAre(6, -1));
}

TEST(Descend, RefusesWhatCannotBeUpdated) {
  CompileOptions options = descent_options();
  options.gradients = {"x"};
  EXPECT_THAT(test::error_of([&] { run_pipeline(parabola(), options); }),
              HasSubstr("grad.x is returned, but x is no state of the graph"));
  EXPECT_THAT(test::error_of([&] { run_pipeline(parabola(true), descent_options()); }),
              HasSubstr("w is to be descended, but the graph gives it a new value itself"));
  options = descent_options();
  options.compose.parts = 2;
  EXPECT_THAT(test::error_of([&] { run_pipeline(parabola(), options); }),
              HasSubstr("a graph that is descended is asked for in 2 parts. Leave parts out."));
}

}  // namespace
}  // namespace weir
