#include "engine/profile.h"

#include <gtest/gtest.h>

#include "engine/run.h"
#include "ir/builder.h"

namespace weir {
namespace {

// Two equal products, one of another shape.
GraphPtr three_products() {
  Builder b("g");
  Tensor x = b.input("x", f32({64, 32}));
  Tensor v = b.state("layers.0.w", f32({32, 32})), w = b.state("layers.1.w", f32({32, 32})),
         u = b.state("head", f32({48, 32}));
  Tensor y = linear(linear(x, v).named("blocks.0.out"), w).named("blocks.1.out");
  b.output("logits", linear(y, u));
  return with_stage(b.finish(), Stage::instrumented);
}

TEST(Profile, EqualKernelsAreOneRowOfTheirNames) {
  const Executables programs = compile(three_products());
  Session session(programs, 1);
  KernelProfile profile(programs);
  for (int i = 0; i < 3; ++i) session.run(0, {}, profile.sink());
  std::vector<KernelTime> times = profile.times();
  ASSERT_EQ(times.size(), 2u);
  EXPECT_GE(times[0].seconds, times[1].seconds);
  const KernelTime& twice = times[0].nodes == 2 ? times[0] : times[1];
  const KernelTime& once = times[0].nodes == 2 ? times[1] : times[0];
  EXPECT_EQ(twice.nodes, 2);
  EXPECT_EQ(twice.runs, 6);
  EXPECT_EQ(twice.makes, "blocks.*.out");
  EXPECT_EQ(twice.schedule, "matmul");
  EXPECT_EQ(twice.shape, "f32[64,32]");
  EXPECT_EQ(twice.cost.products, 2.0 * 64 * 32 * 32);
  EXPECT_EQ(once.nodes, 1);
  EXPECT_EQ(once.runs, 3);
  EXPECT_EQ(once.makes, "logits");
  EXPECT_EQ(once.cost.bytes, 4 * (64 * 32 + 48 * 32 + 64 * 48));
  EXPECT_EQ(once.symbol.substr(0, 7), "matmul_");
}

TEST(Profile, CountsNothingBeforeARun) {
  const Executables programs = compile(three_products());
  EXPECT_TRUE(KernelProfile(programs).times().empty());
}

TEST(Profile, NumbersInNamesBecomeStars) {
  EXPECT_EQ(without_numbers("blocks.12.attn.hook_z"), "blocks.*.attn.hook_z");
  EXPECT_EQ(without_numbers("adam.m.model.layers.0.w1"), "adam.m.model.layers.*.w1");
}

}  // namespace
}  // namespace weir
